package cache

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/docker-build-remote-cache/docker-build-remote-cache/internal/testbed"
	"github.com/docker-build-remote-cache/docker-build-remote-cache/registry"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// counting counts the requests that are sent.
type counting struct {
	http.RoundTripper
	sent atomic.Int64
}

func (c *counting) RoundTrip(r *http.Request) (*http.Response, error) {
	c.sent.Add(1)
	return c.RoundTripper.RoundTrip(r)
}

// slowRegistry is the testbed's registry behind a latency.
func slowRegistry(b *testing.B, env *testbed.Env, latency time.Duration) string {
	b.Helper()
	post := func(path string, body any) (answer struct{ Listen string }) {
		raw, err := json.Marshal(body)
		if err != nil {
			b.Fatal(err)
		}
		response, err := http.Post(env.Toxiproxy+path, "application/json", bytes.NewReader(raw))
		if err != nil {
			b.Fatal(err)
		}
		defer response.Body.Close()
		if response.StatusCode/100 != 2 {
			b.Fatalf("toxiproxy %s: %s", path, response.Status)
		}
		if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
			b.Fatal(err)
		}
		return answer
	}
	name := "bench-" + strings.ToLower(rand.Text())
	listen := post("/proxies", map[string]any{"name": name, "listen": "127.0.0.1:0", "upstream": env.Registry, "enabled": true}).Listen
	b.Cleanup(func() {
		if request, err := http.NewRequest(http.MethodDelete, env.Toxiproxy+"/proxies/"+name, nil); err == nil {
			if response, err := http.DefaultClient.Do(request); err == nil {
				response.Body.Close()
			}
		}
	})
	post("/proxies/"+name+"/toxics", map[string]any{"type": "latency", "attributes": map[string]any{"latency": latency.Milliseconds()}})
	return listen
}

// The time from nothing to the merged import, of 50 stages on 4 levels with a
// registry that is 40 ms away, where every level has another cache of 100
// steps: cold, where the view is new and has to be written; and warm, where an
// earlier run wrote it.
func BenchmarkLookUp50Stages4Levels40ms(b *testing.B) {
	env := testbed.Up(b, testbed.Toxiproxy)
	f := &fake{client: registry.NewClient(registry.Options{})}
	_, path, _ := strings.Cut(env.Repo(b), "/")
	f.repo = f.repository(b, env.Registry+"/"+path)
	p := f.benchPlan(b)
	f.fill(b, p)

	slow := &fake{repo: f.repository(b, slowRegistry(b, env, 40*time.Millisecond)+"/"+path)}
	p = slow.benchPlan(b)
	for _, tc := range []string{"cold", "warm"} {
		b.Run(tc, func(b *testing.B) {
			requests := int64(0)
			for i := range b.N {
				if tc == "cold" { // one level has changed
					b.StopTimer()
					f.push(b, f.repo, exportTag(feat, ""), "base", fmt.Sprint("cold", time.Now(), i))
					b.StartTimer()
				}
				transport := &counting{RoundTripper: http.DefaultTransport.(*http.Transport).Clone()}
				client := registry.NewClient(registry.Options{Transport: transport})
				view := Compose(b.Context(), client, p, Look(b.Context(), client, p))
				if view.Ref == "" || len(view.Lineages) < 200 || len(view.Warnings) > 0 {
					b.Fatalf("%d lineages, %q", len(view.Lineages), view.Warnings)
				}
				requests += transport.sent.Load()
			}
			b.ReportMetric(float64(requests)/float64(b.N), "requests/op")
		})
	}
}

func (f *fake) benchPlan(b *testing.B) Plan {
	b.Helper()
	r := request(b, manyStages(50), nil)
	r.Image.Repository, r.Repository = f.repo, f.repo
	r.BaseBranch.Name = "release"
	return NewPlan(r)
}

// fill stores for every slot of the plan an entry with the cache of its level.
func (f *fake) fill(b *testing.B, p Plan) {
	b.Helper()
	for number, level := range []Level{LevelBranch, LevelBase, LevelDefault, LevelUnprefixed} {
		var steps []string
		for i := range 100 {
			build := 0
			if i >= 60 { // what the levels have in common
				build = number
			}
			steps = append(steps, fmt.Sprintf("step%d@%d", i, build))
		}
		cache := f.push(b, f.repo, fmt.Sprint("level", number), steps...)
		for _, stage := range p.Stages {
			for _, slot := range stage.Reads {
				if slot.Level != level {
					continue
				}
				raw, err := registry.Entry{Cache: &cache, Annotations: slot.Annotations()}.Encode()
				if err == nil {
					_, err = f.client.PutManifest(b.Context(), f.repo, p.Tags(slot)[0], raw, ocispec.MediaTypeImageIndex)
				}
				if err != nil {
					b.Fatal(err)
				}
			}
		}
	}
}
