// Command pagetext prints the text of an HTML page in one normal form, and its
// checksum. It stands for a program with a large toolchain, many dependencies
// and little source of its own.
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"strings"

	"example.org/bench/checksum"
	"golang.org/x/net/html"
	"golang.org/x/text/unicode/norm"
)

func main() {
	check := flag.Bool("check", false, "convert a sample instead of standard input")
	flag.Parse()
	page := io.Reader(os.Stdin)
	if *check {
		page = strings.NewReader("<p>it works</p>")
	}
	converted, err := text(page)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(release, converted)
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
