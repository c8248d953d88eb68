package main

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/fstest"
)

func TestSite(t *testing.T) {
	site, err := newSite(fstest.MapFS{
		"pages/index.md": {Data: []byte("# Welcome\n\n<script>alert(1)</script>\n")},
		"pages/about.md": {Data: []byte("About *us*")},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		address string
		status  int
		body    string
	}{
		{"/", http.StatusOK, "<h1>Welcome</h1>"},
		{"/about", http.StatusOK, "<p>About <em>us</em></p>"},
		{"/other", http.StatusNotFound, "404 page not found"},
	} {
		answer := httptest.NewRecorder()
		site.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, test.address, nil))
		if body := strings.TrimSpace(answer.Body.String()); answer.Code != test.status || body != test.body {
			t.Errorf("%s: status %d, %q", test.address, answer.Code, body)
		}
	}
}
