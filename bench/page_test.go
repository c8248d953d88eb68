//go:build bench

package bench

import (
	"fmt"
	"os"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"
)

const document = "../docs/benchmarks.md"

// publish puts what was measured into its part of the document, with -write,
// and prints it once it is all.
func publish(t *testing.T, part, text string, all bool) {
	text = fmt.Sprintf("Measured %s on %d shared processors (%s).\n%s", time.Now().UTC().Format("2 January 2006"), runtime.NumCPU(), runtime.GOARCH, text)
	if all {
		fmt.Printf("\n%s\n", text)
	}
	if !*writeDocs {
		return
	}
	page, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	begin, end := "<!-- begin "+part+" -->\n", "<!-- end "+part+" -->"
	marked := regexp.MustCompile(`(?s)` + begin + ".*" + end)
	if !marked.Match(page) {
		t.Fatalf("%s has no part %s", document, part)
	}
	page = marked.ReplaceAllLiteral(page, []byte(begin+text+end))
	if err := os.WriteFile(document, page, 0o644); err != nil {
		t.Fatal(err)
	}
}

// builds are the tables of TestBench.
func builds(r *results, rounds int, conditions string) string {
	var w strings.Builder
	fmt.Fprintf(&w, "Up to %d measurements each, %s. The median of the wall-clock times, and the range:\n\n", rounds, conditions)
	r.writeSeconds(&w)
	fmt.Fprint(&w, "\nHow many times as long as this tool the others take (medians):\n\n")
	r.writeRatios(&w)
	fmt.Fprint(&w, "\nWhat passed through the registry, of the median build:\n\n")
	r.writeBytes(&w)
	fmt.Fprint(&w, "\nWhat engine, client and registry used of the processors, of the median build; other than the\n"+
		"wall clock, this hardly depends on what else the machine does:\n\n")
	r.writeProcessor(&w)
	fmt.Fprint(&w, "\nThe goals:\n\n")
	r.writeGoals(&w, goals)
	return w.String()
}

// load is the machine's load average over one minute, "unknown" elsewhere than
// on Linux.
func load() string {
	text, _ := os.ReadFile("/proc/loadavg")
	if one, _, ok := strings.Cut(string(text), " "); ok {
		return one
	}
	return "unknown"
}
