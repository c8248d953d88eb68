package bench

import (
	"io"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync/atomic"
)

// meter counts what passes through a reverse proxy in front of a registry:
// bytes of bodies, and requests.
type meter struct {
	sent, received, requests atomic.Int64 // seen from the registry's clients
	proxy                    httputil.ReverseProxy
}

func newMeter(registry *url.URL) *meter {
	m := &meter{}
	m.proxy = httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(registry)
			// The registry tells clients where to upload to: here.
			r.Out.Host = r.In.Host
			if r.Out.Body != nil {
				r.Out.Body = counted{r.Out.Body, &m.sent}
			}
		},
		ModifyResponse: func(r *http.Response) error {
			r.Body = counted{r.Body, &m.received}
			return nil
		},
	}
	return m
}

func (m *meter) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	m.requests.Add(1)
	m.proxy.ServeHTTP(w, r)
}

// reading is the state of a meter, or the difference of two.
type reading struct{ sent, received, requests int64 }

func (m *meter) read() reading {
	return reading{m.sent.Load(), m.received.Load(), m.requests.Load()}
}

func (r reading) since(earlier reading) reading {
	return reading{r.sent - earlier.sent, r.received - earlier.received, r.requests - earlier.requests}
}

type counted struct {
	io.ReadCloser
	total *atomic.Int64
}

func (c counted) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	c.total.Add(int64(n))
	return n, err
}
