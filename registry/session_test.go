package registry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"golang.org/x/sync/errgroup"
)

// guarded makes a fake ask for a token, and hand out tokens numbered from 1.
// Tokens up to expired are refused.
func guarded(expired func() int, next answer) answer {
	return func(w http.ResponseWriter, r *http.Request, nth int) bool {
		if r.URL.Path == "/token" {
			fmt.Fprintf(w, `{"token":"%d"}`, nth)
			return true
		}
		var token int
		fmt.Sscanf(r.Header.Get("Authorization"), "Bearer %d", &token)
		if token <= expired() {
			w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="http://%s/token",service="fake"`, r.Host))
			return refuse(w, 401, "UNAUTHORIZED")
		}
		return next != nil && next(w, r, nth)
	}
}

func none() int { return 0 }

// Forty questions at once are forty round trips and one handshake; writing is
// another right, and so another handshake.
func TestHandshakeIsMadeOnce(t *testing.T) {
	t.Parallel()
	f := newFake(t, guarded(none, nil))
	c := f.client(t)
	var group errgroup.Group
	for i := range 40 {
		group.Go(func() error {
			_, err := c.Head(t.Context(), f.Repository, fmt.Sprintf("tag-%d", i))
			if !errors.Is(err, ErrNotFound) {
				return fmt.Errorf("head: %w", err)
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	if pings, tokens, heads := f.count("GET /v2/"), f.count("GET /token"), f.count("HEAD "); pings != 1 || tokens != 1 || heads != 40 {
		t.Errorf("%d pings, %d tokens, %d heads, want 1, 1, 40", pings, tokens, heads)
	}
	for _, blob := range []string{"a", "b"} {
		if _, err := c.PutBlob(t.Context(), f.Repository, []byte(blob), "x"); err != nil {
			t.Fatal(err)
		}
	}
	if pings, tokens := f.count("GET /v2/"), f.count("GET /token"); pings != 2 || tokens != 2 {
		t.Errorf("%d pings, %d tokens after writing, want 2, 2", pings, tokens)
	}
}

func TestExpiredTokenIsRenewed(t *testing.T) {
	t.Parallel()
	expired := 0
	f := newFake(t, guarded(func() int { return expired }, nil))
	f.store(t, "feat-x")
	c := f.client(t)
	for range 2 {
		if _, err := c.Head(t.Context(), f.Repository, "feat-x"); err != nil {
			t.Error(err)
		}
		expired = 1
	}
	if tokens := f.count("GET /token"); tokens != 2 {
		t.Errorf("%d tokens, want 2", tokens)
	}
}

// What the ping or the token service answers says nothing about a tag.
func TestFailedHandshakeIsNoMiss(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, path string
		status     int
		want       error
		requests   int
	}{
		{"no registry", "/v2/", 404, ErrUnavailable, 1},
		{"registry down", "/v2/", 503, ErrUnavailable, 3},
		{"no token service", "/token", 404, ErrUnavailable, 1},
		{"token service down", "/token", 500, ErrUnavailable, 3},
		{"wrong password", "/token", 401, ErrUnauthorized, 1},
		{"not allowed", "/token", 403, ErrUnauthorized, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			f := newFake(t, func(w http.ResponseWriter, r *http.Request, nth int) bool {
				if r.URL.Path == tc.path {
					return refuse(w, tc.status, "")
				}
				return guarded(none, nil)(w, r, nth)
			})
			_, err := f.client(t).Head(t.Context(), f.Repository, "feat-x")
			checkKind(t, err, tc.want)
			if got := f.count("GET " + tc.path); got != tc.requests {
				t.Errorf("%d requests, want %d", got, tc.requests)
			}
		})
	}
}

// Who waits for a handshake that another began is not cancelled with it.
func TestHandshakeOutlivesWhoBeganIt(t *testing.T) {
	t.Parallel()
	begun, release := make(chan struct{}), make(chan struct{})
	f := newFake(t, guarded(none, nil))
	inner := f.answer
	f.answer = func(w http.ResponseWriter, r *http.Request, nth int) bool {
		if r.URL.Path == "/token" {
			close(begun)
			<-release
		}
		return inner(w, r, nth)
	}
	c := f.client(t)
	first, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	ask := func(ctx context.Context) {
		_, err := c.Head(ctx, f.Repository, "feat-x")
		ended <- err
	}
	go ask(first)
	<-begun
	cancel()
	checkKind(t, <-ended, context.Canceled)
	go ask(t.Context())
	time.Sleep(10 * time.Millisecond)
	close(release)
	checkKind(t, <-ended, ErrNotFound)
	if tokens := f.count("GET /token"); tokens != 1 {
		t.Errorf("%d tokens, want 1", tokens)
	}
}

type keychain func(authn.Resource) (authn.Authenticator, error)

func (k keychain) Resolve(r authn.Resource) (authn.Authenticator, error) { return k(r) }

func TestCredentialsAreTheRegistrys(t *testing.T) {
	t.Parallel()
	f := newFake(t, func(w http.ResponseWriter, r *http.Request, _ int) bool {
		user, password, _ := r.BasicAuth()
		if user != "ci" || password != "hunter2" {
			w.Header().Set("WWW-Authenticate", `Basic realm="fake"`)
			return refuse(w, 401, "UNAUTHORIZED")
		}
		return false
	})
	f.store(t, "feat-x")
	known := keychain(func(r authn.Resource) (authn.Authenticator, error) {
		if r.RegistryStr() != f.Host() || !strings.HasSuffix(r.String(), "/acme/app") {
			return authn.Anonymous, nil
		}
		return &authn.Basic{Username: "ci", Password: "hunter2"}, nil
	})
	if _, err := f.client(t, func(o *Options) { o.Keychain = known }).Head(t.Context(), f.Repository, "feat-x"); err != nil {
		t.Error(err)
	}
	_, err := f.client(t).Head(t.Context(), f.Repository, "feat-x")
	checkKind(t, err, ErrUnauthorized)

	broken := keychain(func(authn.Resource) (authn.Authenticator, error) { return nil, errors.New("helper not installed") })
	_, err = f.client(t, func(o *Options) { o.Keychain = broken }).Head(t.Context(), f.Repository, "feat-x")
	checkKind(t, err, ErrUnauthorized)
	if !strings.Contains(err.Error(), "helper not installed") {
		t.Errorf("the error hides its cause: %v", err)
	}
}

func TestUserAgentIsSentAlways(t *testing.T) {
	t.Parallel()
	f := newFake(t, nil)
	inner := guarded(none, nil)
	f.answer = func(w http.ResponseWriter, r *http.Request, nth int) bool {
		if agent := r.UserAgent(); !strings.HasPrefix(agent, "tool/1.2 ") {
			t.Errorf("%s %s from %q", r.Method, r.URL.Path, agent)
		}
		return inner(w, r, nth)
	}
	c := f.client(t, func(o *Options) { o.UserAgent = "tool/1.2" })
	if _, err := c.PutBlob(t.Context(), f.Repository, []byte("x"), "x"); err != nil {
		t.Error(err)
	}
}
