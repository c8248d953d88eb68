// Command mounthelper is what the tests run inside cache mounts: it does what
// it is told in one line, "write NAME" or "list", and answers with the names of
// the files.
package main

import (
	"bufio"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"path/filepath"
	"strings"
)

func main() {
	dir, socket := os.Args[2], os.Args[3]
	conn, err := net.Dial("unix", socket)
	if err != nil {
		log.Fatal(err)
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		log.Fatal(err)
	}
	if name, ok := strings.CutPrefix(strings.TrimSpace(line), "write "); ok {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o644); err != nil {
			log.Fatal(err)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		log.Fatal(err)
	}
	var names []string
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	fmt.Fprintln(conn, strings.Join(names, " "))
	io.Copy(io.Discard, conn) // until the other end has read it
}
