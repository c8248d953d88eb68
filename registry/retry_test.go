package registry

import (
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

type waits struct {
	mu  sync.Mutex
	all []Wait
}

func (w *waits) add(wait Wait) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.all = append(w.all, wait)
}

func TestRetryAfterIsHonoured(t *testing.T) {
	t.Parallel()
	f := newFake(t, func(w http.ResponseWriter, r *http.Request, nth int) bool {
		if !isManifestRequest(r) || nth > 1 {
			return false
		}
		w.Header().Set("Retry-After", "1")
		return refuse(w, 429, "TOOMANYREQUESTS")
	})
	f.store(t, "feat-x")
	var told waits
	c := f.client(t, func(o *Options) { o.OnWait = told.add })
	began := time.Now()
	if _, err := c.Head(t.Context(), f.Repository, "feat-x"); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took < time.Second {
		t.Errorf("waited %v, was asked to wait 1s", took)
	}
	want := Wait{Host: f.Host(), Reason: "429 Too Many Requests", Asked: true, Delay: time.Second, Tries: 1}
	if len(told.all) != 1 || told.all[0] != want {
		t.Errorf("told of %+v, want %+v", told.all, want)
	}
}

// A wait that the operation's time does not allow is not begun.
func TestRetryAfterBeyondTheDeadline(t *testing.T) {
	t.Parallel()
	f := newFake(t, func(w http.ResponseWriter, r *http.Request, _ int) bool {
		w.Header().Set("Retry-After", "20")
		return isManifestRequest(r) && refuse(w, 503, "")
	})
	var told waits
	c := f.client(t, func(o *Options) { o.Timeout, o.OnWait = 5*time.Second, told.add })
	began := time.Now()
	_, err := c.Head(t.Context(), f.Repository, "feat-x")
	checkKind(t, err, ErrUnavailable)
	if took := time.Since(began); took > 2*time.Second || len(told.all) > 0 {
		t.Errorf("took %v, told of %v", took, told.all)
	}
}

func TestRegistryDown(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	listener.Close()
	repository, err := ParseRepository(listener.Addr().String() + "/app")
	if err != nil {
		t.Fatal(err)
	}
	var told waits
	o := options()
	o.OnWait = told.add
	client := NewClient(o)
	for range 3 { // all but the first know it already
		_, err = client.Head(t.Context(), repository, "feat-x")
		checkKind(t, err, ErrUnavailable)
		if !strings.Contains(err.Error(), "connection refused") {
			t.Errorf("the error hides its cause: %v", err)
		}
	}
	// Once over https and once over http, since it is on loopback.
	if len(told.all) != 2 || told.all[0].Reason != "connection refused" || told.all[0].Asked {
		t.Errorf("told of %+v", told.all)
	}
}

func TestUnknownHostIsNotAskedAgain(t *testing.T) {
	t.Parallel()
	repository, err := ParseRepository("registry.invalid/app")
	if err != nil {
		t.Fatal(err)
	}
	dials := 0
	o := options()
	o.Transport = roundTrip(func(*http.Request) (*http.Response, error) {
		dials++
		return nil, &net.OpError{Op: "dial", Err: &net.DNSError{Err: "no such host", Name: "registry.invalid", IsNotFound: true}}
	})
	_, err = NewClient(o).Head(t.Context(), repository, "feat-x")
	checkKind(t, err, ErrUnavailable)
	if dials != 1 {
		t.Errorf("%d attempts, want 1", dials)
	}
}

// A registry that is back is asked again, once the outage is over.
func TestOutageEnds(t *testing.T) {
	t.Parallel()
	dials, up := 0, false
	r := &retrying{attempts: 5, wait: time.Microsecond, longest: time.Second, base: roundTrip(func(*http.Request) (*http.Response, error) {
		if dials++; !up {
			return nil, &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}
		}
		return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody}, nil
	})}
	ask := func() error {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://registry.test/v2/", nil)
		if err != nil {
			t.Fatal(err)
		}
		response, err := r.RoundTrip(request)
		if err == nil {
			response.Body.Close()
		}
		return err
	}
	for range 2 {
		if err := ask(); err == nil || dials != reachAttempts {
			t.Fatalf("%d attempts, %v", dials, err)
		}
	}
	up = true
	if ask() == nil {
		t.Error("asked again at once")
	}
	known, _ := r.gone.Load("https://registry.test")
	r.gone.Store("https://registry.test", outage{known.(outage).err, time.Now()})
	for range 2 {
		if err := ask(); err != nil {
			t.Error(err)
		}
	}
	if dials != reachAttempts+2 {
		t.Errorf("%d attempts", dials)
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestWaitsDoubleUpToTheLongest(t *testing.T) {
	t.Parallel()
	s := sending{retrying: &retrying{wait: 100 * time.Millisecond, longest: time.Second}}
	for tries, least := range map[int]time.Duration{1: 100, 2: 200, 3: 400, 4: 800, 5: 1000, 60: 1000} {
		s.tries = tries
		least *= time.Millisecond
		for range 20 {
			if got, asked := s.delay(nil); asked || got < least || got > min(least*5/4, time.Second) {
				t.Errorf("after %d attempts %v, %v", tries, got, asked)
			}
		}
	}
	for _, tc := range []struct {
		header string
		asked  bool
		want   time.Duration
	}{
		{"0", true, 100 * time.Millisecond},
		{"20", true, 20 * time.Second},
		{"-5", false, 0},
		{"soon", false, 0},
		{"9223372036854775807", false, 0},
	} {
		response := &http.Response{StatusCode: 429, Header: http.Header{"Retry-After": {tc.header}}}
		s.tries = 1
		if got, asked := s.delay(response); asked != tc.asked || asked && got != tc.want {
			t.Errorf("Retry-After: %s gives %v, %v", tc.header, got, asked)
		}
	}
}
