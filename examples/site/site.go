package main

import (
	"bytes"
	"embed"
	"io/fs"
	"net/http"
	"path"
	"strings"

	"github.com/go-chi/chi/v5"
	"github.com/microcosm-cc/bluemonday"
	"github.com/yuin/goldmark"
)

//go:embed pages/*.md
var pages embed.FS

// newSite renders every page once; index is the page at the root.
func newSite(files fs.FS) (http.Handler, error) {
	names, err := fs.Glob(files, "pages/*.md")
	if err != nil {
		return nil, err
	}
	router := chi.NewRouter()
	for _, name := range names {
		page, err := render(files, name)
		if err != nil {
			return nil, err
		}
		address := "/" + strings.TrimSuffix(path.Base(name), ".md")
		if address == "/index" {
			address = "/"
		}
		router.Get(address, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			w.Write(page)
		})
	}
	return router, nil
}

func render(files fs.FS, name string) ([]byte, error) {
	source, err := fs.ReadFile(files, name)
	if err != nil {
		return nil, err
	}
	var page bytes.Buffer
	if err := goldmark.Convert(source, &page); err != nil {
		return nil, err
	}
	return bluemonday.UGCPolicy().SanitizeBytes(page.Bytes()), nil
}
