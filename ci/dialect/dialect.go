// Package dialect tells the CI platform that a build runs on what it did, in
// the platform's own terms: groups in the log, annotations at a line of the
// Dockerfile, masks for secrets, outputs for later steps and a summary of the
// job. It is the way out of what package ci is the way in.
//
// Platforms take commands from a job's output: GitHub obeys lines that begin
// with "::", Azure those that contain "##vso[". A build prints what strangers
// wrote. Log is therefore the one way to the output: what others wrote passes
// through it and is obeyed by nobody, what this package writes is one line of
// one command, whatever the text in it.
//
// No API stability is promised: the product is the command.
package dialect

// Dialect is how one platform is told things. Telling may fail, and never
// matters to the build: what is lost is an error where somebody may miss it,
// and otherwise nothing.
type Dialect interface {
	// Group folds what is printed from here to EndGroup. Groups do not nest.
	Group(title string)
	EndGroup()
	// Annotate marks a line of a file, or the job as a whole.
	Annotate(a Annotation)
	// Mask keeps a secret from being shown in the log from here on. It tells
	// the platform the secret by way of the log.
	Mask(secret string)
	// Output hands a value to later steps.
	Output(name, value string) error
	// Summary adds Markdown to the page of the job.
	Summary(markdown string) error
}

// Severity is how bad it is what an annotation tells.
type Severity string

// The severities, as GitHub and Azure call them.
const (
	Warning Severity = "warning"
	Error   Severity = "error"
)

// Annotation is something to tell about a file.
type Annotation struct {
	Severity Severity
	File     string // path, relative to the working directory or absolute; "" for none
	Line     int    // 1-based, 0 for none
	Text     string
}

// Options of New.
type Options struct {
	// Log is the output of the job. Required.
	Log *Log
	// Getenv reads the environment. Required.
	Getenv func(name string) string
	// Artifacts is a directory that the job keeps, for platforms which have no
	// summaries; it is made when it is needed. "" for none.
	Artifacts string
}

// New gives the dialect of a platform, by its name in ci.Facts.Provider. One
// that has none of its own is told nothing: people read the log.
func New(provider string, o Options) Dialect {
	switch provider {
	case "github":
		return newGithub(o)
	case "azure":
		return azure{o}
	case "circleci":
		return circleci{artifacts: o.Artifacts}
	default:
		return plain{}
	}
}

// plain says nothing beside what is printed anyway.
type plain struct{}

func (plain) Group(string)                {}
func (plain) EndGroup()                   {}
func (plain) Annotate(Annotation)         {}
func (plain) Mask(string)                 {}
func (plain) Output(string, string) error { return nil }
func (plain) Summary(string) error        { return nil }
