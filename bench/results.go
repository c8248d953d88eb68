package bench

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// measurement is one command on an empty engine.
type measurement struct {
	peer, scenario string
	elapsed        time.Duration
	processor      time.Duration // of engine, client and registry
	moved          reading
}

// results are the measurements of one run of the benchmark, with what they are
// measured of in the order of the tables.
type results struct {
	peers, scenarios []string
	measured         []measurement
}

// sample are the measurements of one peer in one scenario, the fastest first.
func (r *results) sample(peer, scenario string) []measurement {
	var sample []measurement
	for _, m := range r.measured {
		if m.peer == peer && m.scenario == scenario {
			sample = append(sample, m)
		}
	}
	slices.SortFunc(sample, func(a, b measurement) int { return int(a.elapsed - b.elapsed) })
	return sample
}

// median in seconds; ok is false where nothing was measured.
func (r *results) median(peer, scenario string) (seconds float64, ok bool) {
	sample := r.sample(peer, scenario)
	if len(sample) == 0 {
		return 0, false
	}
	lower, upper := sample[(len(sample)-1)/2], sample[len(sample)/2]
	return (lower.elapsed + upper.elapsed).Seconds() / 2, true
}

// ratio is how many times faster b is than a.
func (r *results) ratio(a, scenarioA, b, scenarioB string) (times float64, ok bool) {
	slow, okA := r.median(a, scenarioA)
	fast, okB := r.median(b, scenarioB)
	return slow / fast, okA && okB && fast > 0
}

// writeSeconds writes the table of medians, with the range where there are
// several measurements.
func (r *results) writeSeconds(w io.Writer) {
	r.writeTable(w, "seconds", func(peer, scenario string) string {
		median, ok := r.median(peer, scenario)
		if !ok {
			return ""
		}
		sample := r.sample(peer, scenario)
		if len(sample) == 1 {
			return seconds(median)
		}
		first, last := sample[0].elapsed.Seconds(), sample[len(sample)-1].elapsed.Seconds()
		return fmt.Sprintf("**%s** (%s-%s)", seconds(median), seconds(first), seconds(last))
	})
}

func seconds(s float64) string {
	if s < 10 {
		return fmt.Sprintf("%.2f", s)
	}
	return fmt.Sprintf("%.1f", s)
}

// writeBytes writes the table of what was moved, of the median measurement.
func (r *results) writeBytes(w io.Writer) {
	r.writeTable(w, "MB to / from the registry", func(peer, scenario string) string {
		sample := r.sample(peer, scenario)
		if len(sample) == 0 {
			return ""
		}
		moved := sample[len(sample)/2].moved
		return fmt.Sprintf("%.1f / %.1f", float64(moved.sent)/1e6, float64(moved.received)/1e6)
	})
}

// writeProcessor writes the table of processor seconds, of the median
// measurement.
func (r *results) writeProcessor(w io.Writer) {
	r.writeTable(w, "processor seconds", func(peer, scenario string) string {
		sample := r.sample(peer, scenario)
		if len(sample) == 0 {
			return ""
		}
		return seconds(sample[len(sample)/2].processor.Seconds())
	})
}

// writeRatios writes how many times faster the last peer is than each other.
func (r *results) writeRatios(w io.Writer) {
	last := r.peers[len(r.peers)-1]
	r.writeTable(w, "times as long as "+last, func(peer, scenario string) string {
		times, ok := r.ratio(peer, scenario, last, scenario)
		if !ok || peer == last {
			return ""
		}
		return fmt.Sprintf("%.2f", times)
	})
}

// writeTable writes a Markdown table of peers by scenarios.
func (r *results) writeTable(w io.Writer, corner string, cell func(peer, scenario string) string) {
	fmt.Fprintf(w, "| %s | %s |\n|---|%s\n", corner, strings.Join(r.peers, " | "), strings.Repeat("---:|", len(r.peers)))
	for _, scenario := range r.scenarios {
		row := []string{scenario}
		for _, peer := range r.peers {
			row = append(row, cell(peer, scenario))
		}
		fmt.Fprintf(w, "| %s |\n", strings.Join(row, " | "))
	}
}

// goal is a comparison that this tool is to win by a factor.
type goal struct {
	text                 string
	peer, scenario       string // that is compared with
	least                float64
	tool, toolInScenario string
}

// writeGoals writes for each goal what was measured and whether it was met.
func (r *results) writeGoals(w io.Writer, goals []goal) {
	fmt.Fprint(w, "| goal | measured | |\n|---|---:|---|\n")
	for _, g := range goals {
		times, ok := r.ratio(g.peer, g.scenario, g.tool, g.toolInScenario)
		if !ok {
			fmt.Fprintf(w, "| %s | | not measured |\n", g.text)
			continue
		}
		verdict := met(times >= g.least)
		if g.least < 1 { // "at most 1.25 times": told the way it is asked
			fmt.Fprintf(w, "| %s | %.2f times | %s |\n", g.text, 1/times, verdict)
			continue
		}
		fmt.Fprintf(w, "| %s | %.2f times faster | %s |\n", g.text, times, verdict)
	}
}

// met is the verdict on a goal.
func met(is bool) string {
	if is {
		return "met"
	}
	return "not met"
}
