// Package deps names all that the program needs, so that it is compiled in a
// step of its own, before the program.
package deps

import (
	_ "flag"
	_ "fmt"
	_ "runtime/cgo"

	_ "golang.org/x/net/html"
	_ "golang.org/x/text/unicode/norm"
)
