// Command site serves a few Markdown pages as HTML.
package main

import (
	"log"
	"net/http"
	"time"
)

func main() {
	site, err := newSite(pages)
	if err != nil {
		log.Fatal(err)
	}
	server := &http.Server{Addr: ":8080", Handler: site, ReadHeaderTimeout: 10 * time.Second}
	log.Fatal(server.ListenAndServe())
}
