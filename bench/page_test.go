//go:build bench

package bench

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"
)

// page is docs/benchmarks.md.
func page(r *results, conditions string) string {
	var w strings.Builder
	fmt.Fprintf(&w, `# Benchmarks

Written by `+"`make bench BENCH=-write`"+` on %s: %d processors (%s), shared with
others; %s; %d measurements each.

The project in bench/project has a Debian base with Go, an apt layer of about
200 MB, Go modules with their compiled packages, and little source. Every build is
that of a new CI runner: its engine is empty. The registry is on the same machine;
Debian's packages and Go's modules come from a mirror inside the benchmark, so that
the network is not measured.

- **recipe**: the article's, bench/recipe.sh, on Docker 20.10's classic builder.
- **buildx, no cache**: %[5]cdocker buildx build --push%[5]c on BuildKit 0.34.2.
- **buildx**: with the documented --cache-from and --cache-to type=registry,mode=max;
  **zstd** with compression=zstd too.
- **this tool**: on BuildKit 0.34.2. It pushes every stage as a runnable image too.

The median of the wall-clock times, and the range:

`, time.Now().UTC().Format("2 January 2006"), runtime.NumCPU(), runtime.GOARCH, conditions, *repeats, '`')
	r.writeSeconds(&w)
	fmt.Fprint(&w, "\nHow many times as long as this tool the others take (medians):\n\n")
	r.writeRatios(&w)
	fmt.Fprint(&w, "\nWhat passed between engine, client and registry:\n\n")
	r.writeBytes(&w)
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
