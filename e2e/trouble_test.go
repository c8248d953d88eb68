package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// Whatever happens to the registry of the cache, the build succeeds, and what
// was lost is said.
func TestCacheRegistryInTrouble(t *testing.T) {
	r := onBuildKit(t)
	writeProject(t, r)
	r = r.on("master")
	cases := map[string]struct {
		trouble answer // nil: the registry is down
		said    []string
		denied  string // why nothing is even tried to be saved
	}{
		"down": {
			said: []string{`trying again in`, `^remote-cache: warning: no cache can be read: .*connection refused`},
		},
		"401": {
			trouble: refuse(http.StatusUnauthorized),
			said:    []string{`^remote-cache: warning: no cache can be read: .*access denied`},
			denied:  "may neither be read nor written",
		},
		"403": {
			trouble: refuse(http.StatusForbidden),
			said:    []string{`^remote-cache: warning: no cache can be read: .*access denied`},
			denied:  "may neither be read nor written",
		},
		"429": {
			trouble: refuse(http.StatusTooManyRequests),
			said:    []string{`429 Too Many Requests, trying again in`, `^remote-cache: warning: no cache can be read: .*429`},
		},
		"500": {
			trouble: refuse(http.StatusInternalServerError),
			said:    []string{`500 Internal Server Error, trying again in`, `^remote-cache: warning: no cache can be read: .*500`},
		},
		"read-only": {trouble: refuseWrites(http.StatusForbidden), said: []string{`: no cache yet$`}, denied: "may be read but not written"},
	}
	runs := map[string]*process{}
	for name, c := range cases {
		cache := newFake(t)
		if c.trouble == nil {
			cache.server.Close()
		} else {
			cache.misbehave(c.trouble)
		}
		runs[name] = r.start(t, r.image(name), "--cache-repo", cache.repo())
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			image := r.image(name)
			built := runs[name].wantStatus(t, 0)
			built.wantSaid(t, c.said...)
			if result := built.report.Result; result.Status != "ok" || result.Digest != digestOf(t, image) {
				t.Errorf("the report says %+v, and %s is %s", result, image, digestOf(t, image))
			}
			if c.denied != "" {
				built.wantSaid(t, c.denied+`: no cache is saved; run docker login `)
				built.wantSaved(t, "")
				return
			}
			built.wantSaid(t, `^cache lost, not saved to `)
			for _, stage := range built.report.Stages {
				if len(stage.Saved) == 0 || stage.Saved[0].Error == "" {
					t.Errorf("of stage %s the report says it was saved: %+v", stage.Name, stage.Saved)
				}
			}
		})
	}
}

// Why a build failed is said once it is all over: after BuildKit's own summary,
// with which the progress ends.
func TestTheErrorIsSaidLast(t *testing.T) {
	r := onBuildKit(t).on("master")
	r.write(t, "Dockerfile", "FROM BASE\nRUN echo done\nRUN echo broken; exit 3\n")
	out := r.run(t, 1, r.image("1")).stderr
	summary, said := strings.LastIndex(out, "------\n > ["), strings.LastIndex(out, "\nerror: build: ")
	if summary < 0 || said < summary {
		t.Errorf("the summary stands at %d, the error at %d:\n%s", summary, said, out)
	}
}

// A cache that cannot be read is a miss that is told, and is replaced.
func TestCacheThatCannotBeRead(t *testing.T) {
	r := onBuildKit(t)
	writeProject(t, r)
	r = r.on("master")
	cases := map[string]struct {
		spoil func(w http.ResponseWriter, manifest []byte)
		said  string
	}{
		"cut off": {
			spoil: func(w http.ResponseWriter, manifest []byte) {
				w.Header().Set("Content-Length", fmt.Sprint(len(manifest)))
				w.Write(manifest[:len(manifest)/2])
			},
			said: `^remote-cache: warning: .*unexpected EOF`,
		},
		"truncated": {
			spoil: func(w http.ResponseWriter, manifest []byte) { w.Write(manifest[:len(manifest)/2]) },
			said:  `^remote-cache: warning: the cache at .* cannot be read: .*invalid content`,
		},
		"a login page": {
			spoil: func(w http.ResponseWriter, manifest []byte) {
				w.Header().Set("Content-Type", "text/html")
				w.Write([]byte("<html>"))
			},
			said: `^remote-cache: warning: the cache at .* cannot be read: .*invalid content`,
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			cache := newFake(t)
			branch := r.with("--cache-repo", cache.repo(), "--push=false")
			branch.run(t, 0, "app:1")
			cache.misbehave(func(w http.ResponseWriter, r *http.Request) bool {
				if r.Method != http.MethodGet || !strings.Contains(r.URL.Path, "/manifests/") || byEngine(r) {
					return false
				}
				truth := cache.truly(r)
				if truth.Code != http.StatusOK {
					return false
				}
				w.Header().Set("Content-Type", truth.Header().Get("Content-Type"))
				c.spoil(w, truth.Body.Bytes())
				return true
			})
			branch.run(t, 0, "app:1", "--no-cache").wantSaid(t, c.said)
		})
	}
}

// The image that was asked for is no cache: without it the run fails, though
// the cache is saved where it can be.
func TestImageCannotBePushed(t *testing.T) {
	r := onBuildKit(t)
	writeProject(t, r)
	r = r.on("master")
	cases := map[string]struct {
		trouble    answer
		said, hint string
	}{
		"down": {said: `^error: deliver image: .*connection refused`, hint: `^hint: the build itself succeeded`},
		"401":  {trouble: refuse(http.StatusUnauthorized), said: `^error: deliver image: .*401`, hint: `^hint: run docker login`},
		"403":  {trouble: refuse(http.StatusForbidden), said: `^error: deliver image: .*403`, hint: `^hint: run docker login`},
		"503":  {trouble: refuse(http.StatusServiceUnavailable), said: `^error: deliver image: .*503`, hint: `^hint: the build itself succeeded`},
	}
	runs := map[string]*process{}
	for name, c := range cases {
		images := newFake(t)
		if c.trouble == nil {
			images.server.Close()
		} else {
			images.misbehave(c.trouble)
		}
		runs[name] = r.start(t, images.repo()+":1", "--cache-repo", r.env.Repo(t))
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			built := runs[name].wantStatus(t, 1)
			built.wantSaid(t, c.said, c.hint)
			built.wantSaved(t, "master-tools tools master-builder builder master-test test master latest")
			if result := built.report.Result; result.Status != "failed" || result.Pushed {
				t.Errorf("the report says %+v", result)
			}
		})
	}
}
