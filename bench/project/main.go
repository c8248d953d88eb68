// Command server answers with the page it is sent: the text of an HTML
// document, in one normal form, with its checksum. It stands for a program with
// a large toolchain, many dependencies and little source of its own.
package main

import (
	"flag"
	"fmt"
	"io"
	"log"
	"net/http"
	"strings"

	"example.org/bench/checksum"
	"golang.org/x/net/html"
	"golang.org/x/text/unicode/norm"
)

func main() {
	check := flag.Bool("check", false, "convert a sample and stop")
	flag.Parse()
	if *check {
		page, err := text(strings.NewReader("<p>it works</p>"))
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(release, page)
		return
	}
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		page, err := text(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		fmt.Fprintln(w, page)
	})
	log.Fatal(http.ListenAndServe(":8080", nil))
}

func text(page io.Reader) (string, error) {
	var words strings.Builder
	for tokens := html.NewTokenizer(page); ; {
		switch tokens.Next() {
		case html.TextToken:
			words.Write(tokens.Text())
		case html.ErrorToken:
			if tokens.Err() != io.EOF {
				return "", tokens.Err()
			}
			normal := norm.NFC.String(words.String())
			return fmt.Sprintf("%s (%08x)", normal, checksum.Of(normal)), nil
		}
	}
}
