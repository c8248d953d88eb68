// Package report tells what a finished build did: a short table for people
// (Fprint) and JSON for machines (Report.Write), which schema.json describes
// (JSON Schema, draft 2020-12).
//
// A report is plain data that the caller fills in once the build has ended,
// whatever its outcome. Much of it (instructions, branches, errors, what a
// registry said) was written by others: for people it is stripped of control
// characters and bounded, for machines it is left as it is.
//
// No API stability is promised for the Go types; the JSON has a version.
package report

// Report is one run of the tool (issue A, "What it does" 7).
type Report struct {
	// SchemaVersion is stamped by Write.
	SchemaVersion int `json:"schemaVersion"`
	// Version of the tool.
	Version string `json:"version"`
	// Image as named on the command line.
	Image string `json:"image"`
	// Branch that was built, and the repository's default branch; empty if
	// not known.
	Branch        string `json:"branch"`
	DefaultBranch string `json:"defaultBranch"`
	// Trust is whose code was built, one of own, fork and unknown;
	// TrustReason why it is thought so.
	Trust       string `json:"trust,omitempty"`
	TrustReason string `json:"trustReason,omitempty"`
	// Engine that built, with its version, for people.
	Engine string `json:"engine"`
	Result Result `json:"result"`
	// Seconds the whole run took, of which the phases are parts.
	Seconds float64 `json:"seconds"`
	Phases  []Phase `json:"phases"`
	// Stages in the order of the Dockerfile, those that nothing uses included.
	Stages []Stage `json:"stages"`
	// Lineages that were merged into the one cache of this build, most
	// preferred first (issue B).
	Lineages []Lineage `json:"lineages"`
	// Mounts are the cache mounts that are kept, in the order of the
	// Dockerfile (issue F).
	Mounts   []Mount  `json:"mounts"`
	Skips    []Skip   `json:"skips"`
	Warnings []string `json:"warnings"`
	// Advice on the Dockerfile, in the order of its lines (issue F).
	Advice []Advice `json:"advice,omitempty"`
}

// Advice is what would make a step cheaper when it runs again.
type Advice struct {
	Stage string `json:"stage"`
	Line  int    `json:"line"`
	// Tool that the advice is about, such as apt or npm.
	Tool string `json:"tool"`
	// Mounts to add to the step, as flags of RUN; empty if it lacks none.
	Mounts []string `json:"mounts,omitempty"`
	// Text says it all to people.
	Text string `json:"text"`
}

// Status is what became of a build (OK, Failed, Canceled) or of a step (all
// but OK). A step without one is pending.
type Status string

// The statuses. A step that was never reached is pending.
const (
	OK       Status = "ok"
	Cached   Status = "cached"
	Ran      Status = "ran"
	Failed   Status = "failed"
	Canceled Status = "canceled"
	Pending  Status = "pending"
)

// Result is how the build ended. Losing the cache is no error of the build.
type Result struct {
	Status Status `json:"status"`
	// Digest of the image; empty if there is none, or the engine tells none.
	Digest string `json:"digest"`
	Pushed bool   `json:"pushed"`
	Error  string `json:"error,omitempty"`
}

// Phase is a part of the run, such as lookup, build and save.
type Phase struct {
	Name    string  `json:"name"`
	Seconds float64 `json:"seconds"`
}

// Stage is one stage of the Dockerfile. Its name is its index if it has none.
type Stage struct {
	Name string `json:"name"`
	// Imported is the nearest cache of the stage that exists; nil for none.
	Imported *Imported `json:"imported"`
	// Saved are the refs that this run wrote, or tried to: none for a stage
	// that was merely imported.
	Saved []Saved `json:"saved"`
	Steps []Step  `json:"steps"`
}

// Imported is the ref a stage's cache was read from and its level, one of
// branch, base, default and unprefixed.
type Imported struct {
	Ref   string `json:"ref"`
	Level string `json:"level"`
}

// Saved is one attempt to write a stage's cache; Error says why it is lost.
type Saved struct {
	Ref   string `json:"ref"`
	Error string `json:"error,omitempty"`
}

// Step is one instruction of a stage.
type Step struct {
	// Line is the first one in the Dockerfile, 1-based.
	Line        int     `json:"line"`
	Instruction string  `json:"instruction"`
	Status      Status  `json:"status"`
	Seconds     float64 `json:"seconds"`
	// Saved reports whether the step's result is in the registry at the end
	// of this run: the next build need not repeat it.
	Saved bool `json:"saved"`
	// SavedSeconds is how long a cached step took when it last ran; 0 if that
	// is not known.
	SavedSeconds float64 `json:"savedSeconds,omitempty"`
	// From is the ref of the lineage a hit came from; empty if not known.
	From string `json:"from,omitempty"`
}

// Lineage is one cache that was merged into that of this build.
type Lineage struct {
	Ref    string `json:"ref"`
	Level  string `json:"level"`
	Stage  string `json:"stage"`
	Digest string `json:"digest"`
}

// Skip is something the tool left out on purpose.
type Skip struct {
	What   string `json:"what"`
	Reason string `json:"reason"`
}

// tally counts the steps of a stage, or of many.
type tally struct {
	steps, cached, ran, failed, canceled, pending int
	saved, lost                                   int // lost: ran, but not saved
	seconds, savedSeconds, lostSeconds            float64
	spared                                        float64 // seconds that cached steps took when they last ran
}

func (t *tally) add(steps []Step) {
	for _, s := range steps {
		t.steps++
		t.seconds += s.Seconds
		if s.Saved {
			t.saved++
		}
		switch s.Status {
		case Cached:
			t.cached++
			t.spared += s.SavedSeconds
		case Failed:
			t.failed++
		case Canceled:
			t.canceled++
		case Ran:
			t.ran++
			if s.Saved {
				t.savedSeconds += s.Seconds
			} else {
				t.lost++
				t.lostSeconds += s.Seconds
			}
		default:
			t.pending++
		}
	}
}

func tallyOf(steps []Step) tally {
	var t tally
	t.add(steps)
	return t
}
