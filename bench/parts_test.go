package bench

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestMeterCountsBodies(t *testing.T) {
	t.Parallel()
	registry := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		io.WriteString(w, "for "+r.Host)
	}))
	t.Cleanup(registry.Close)
	target, err := url.Parse(registry.URL)
	if err != nil {
		t.Fatal(err)
	}
	m := newMeter(target)
	proxy := httptest.NewServer(m)
	t.Cleanup(proxy.Close)

	before := m.read()
	response, err := http.Post(proxy.URL+"/v2/", "text/plain", strings.NewReader("four"))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	// With the client's Host the registry names upload locations at the proxy.
	if want := "for " + proxy.Listener.Addr().String(); string(body) != want {
		t.Errorf("got %q, want %q", body, want)
	}
	if got, want := m.read().since(before), (reading{4, int64(len(body)), 1}); got != want {
		t.Errorf("counted %+v, want %+v", got, want)
	}
}

func TestMirrorFetchesOnce(t *testing.T) {
	t.Parallel()
	asked := 0
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked++
		if r.URL.Path != "/a.deb" {
			http.NotFound(w, r)
			return
		}
		io.WriteString(w, "package")
	}))
	t.Cleanup(upstream.Close)
	packages, lists := t.TempDir(), t.TempDir()
	proxy := httptest.NewServer(newMirror(packages, lists))
	t.Cleanup(proxy.Close)
	address, err := url.Parse(proxy.URL)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{Proxy: http.ProxyURL(address)}
	t.Cleanup(transport.CloseIdleConnections)
	client := &http.Client{Transport: transport}
	for _, test := range []struct {
		file, body string
		status     int
	}{
		{"/a.deb", "package", http.StatusOK},
		{"/a.deb", "package", http.StatusOK},
		{"/b.deb", "Not Found\n", http.StatusNotFound},
	} {
		response, err := client.Get(upstream.URL + test.file)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(response.Body)
		response.Body.Close()
		if err != nil || response.StatusCode != test.status || string(body) != test.body {
			t.Errorf("%s: %s, %q, %v", test.file, response.Status, body, err)
		}
	}
	if asked != 2 {
		t.Errorf("upstream was asked %d times for two files", asked)
	}
	if kept, err := os.ReadDir(packages); err != nil || len(kept) != 1 {
		t.Errorf("%d files are kept, %v", len(kept), err)
	}
}

func TestTables(t *testing.T) {
	t.Parallel()
	r := results{peers: []string{"other", "tool"}, scenarios: []string{"cold", "warm"}}
	for _, m := range []struct {
		peer, scenario string
		seconds        float64
	}{
		{"other", "cold", 30},
		{"other", "cold", 10},
		{"other", "cold", 20},
		{"tool", "cold", 10},
		{"tool", "cold", 6},
		{"tool", "warm", 0.25},
	} {
		r.measured = append(r.measured, measurement{
			peer: m.peer, scenario: m.scenario, elapsed: time.Duration(m.seconds * float64(time.Second)),
			processor: time.Second, moved: reading{2e6, 1e6, 1},
		})
	}
	var w strings.Builder
	r.writeSeconds(&w)
	r.writeRatios(&w)
	r.writeBytes(&w)
	r.writeProcessor(&w)
	r.writeGoals(&w, []goal{
		{"twice as fast", "other", "cold", 2, "tool", "cold"},
		{"three times as fast", "other", "cold", 3, "tool", "cold"},
		{"at most 0.8 times", "tool", "cold", 0.8, "other", "cold"},
		{"as fast", "other", "warm", 1, "tool", "warm"},
	})
	want := `| seconds | other | tool |
|---|---:|---:|
| cold | **20.0** (10.0-30.0) | **8.00** (6.00-10.0) |
| warm |  | 0.25 |
| times as long as tool | other | tool |
|---|---:|---:|
| cold | 2.50 |  |
| warm |  |  |
| MB to / from the registry | other | tool |
|---|---:|---:|
| cold | 2.0 / 1.0 | 2.0 / 1.0 |
| warm |  | 2.0 / 1.0 |
| processor seconds | other | tool |
|---|---:|---:|
| cold | 1.00 | 1.00 |
| warm |  | 1.00 |
| goal | measured | |
|---|---:|---|
| twice as fast | 2.50 times faster | met |
| three times as fast | 2.50 times faster | not met |
| at most 0.8 times | 2.50 times | not met |
| as fast | | not measured |
`
	if diff := cmp.Diff(want, w.String()); diff != "" {
		t.Error(diff)
	}
}
