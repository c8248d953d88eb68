package e2e

import (
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-containerregistry/pkg/registry"
)

// fake is a registry in this process, which a test can make misbehave while
// engines use it.
type fake struct {
	server  *httptest.Server
	healthy http.Handler
	answer  atomic.Pointer[answer]
}

// answer answers a request in the registry's place, or returns false.
type answer func(w http.ResponseWriter, r *http.Request) bool

func newFake(t *testing.T) *fake {
	t.Helper()
	f := &fake{healthy: registry.New(registry.Logger(log.New(io.Discard, "", 0)))}
	f.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if answer := f.answer.Load(); answer == nil || !(*answer)(w, r) {
			f.healthy.ServeHTTP(w, r)
		}
	}))
	f.server.Config.ErrorLog = log.New(io.Discard, "", 0)
	t.Cleanup(f.server.Close)
	return f
}

func (f *fake) misbehave(a answer) { f.answer.Store(&a) }

// truly is what the registry answers when it behaves.
func (f *fake) truly(r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	f.healthy.ServeHTTP(w, r)
	return w
}

// repo is a repository in it.
func (f *fake) repo() string { return strings.TrimPrefix(f.server.URL, "http://") + "/acme/app" }

// refuse answers everything with a status.
func refuse(status int) answer {
	return func(w http.ResponseWriter, r *http.Request) bool {
		if status == http.StatusTooManyRequests {
			w.Header().Set("Retry-After", "0")
		}
		if status == http.StatusUnauthorized {
			w.Header().Set("WWW-Authenticate", `Basic realm="acme"`)
		}
		http.Error(w, "no", status)
		return true
	}
}

// refuseWrites is refuse for what would change the registry.
func refuseWrites(status int) answer {
	return func(w http.ResponseWriter, r *http.Request) bool {
		return r.Method != http.MethodGet && r.Method != http.MethodHead && refuse(status)(w, r)
	}
}

// byEngine tells a request of an engine from one of the command.
func byEngine(r *http.Request) bool { return !strings.HasPrefix(r.UserAgent(), command) }
