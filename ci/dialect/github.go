package dialect

import (
	"crypto/rand"
	"fmt"
	"strconv"

	"github.com/sethvargo/go-githubactions"
)

// github speaks workflow commands.
// https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-commands
type github struct {
	action *githubactions.Action
	root   string // of the checkout
}

func newGithub(o Options) github {
	return github{
		action: githubactions.New(
			githubactions.WithWriter(commandWriter{o.Log}),
			githubactions.WithGetenv(githubactions.GetenvFunc(o.Getenv)),
		),
		root: o.Getenv("GITHUB_WORKSPACE"),
	}
}

// commandWriter takes each write as one command.
type commandWriter struct{ log *Log }

func (w commandWriter) Write(p []byte) (int, error) {
	if err := w.log.command(p); err != nil {
		return 0, err
	}
	return len(p), nil
}

// attempt makes an error of the panics of go-githubactions, which it has for
// a file or an output that cannot be written.
func attempt(command func()) (err error) {
	defer func() {
		if problem := recover(); problem != nil {
			err = fmt.Errorf("tell GitHub: %v", problem)
		}
	}()
	command()
	return nil
}

func (g github) Group(title string) { _ = attempt(func() { g.action.Group(line(title)) }) }
func (g github) EndGroup()          { _ = attempt(g.action.EndGroup) }

func (g github) Mask(secret string) {
	for _, mask := range masks(secret) {
		_ = attempt(func() { g.action.AddMask(mask) })
	}
}

func (g github) Annotate(a Annotation) {
	fields := map[string]string{}
	if a.File != "" {
		fields["file"] = line(relativeTo(g.root, a.File))
		if a.Line > 0 {
			fields["line"] = strconv.Itoa(a.Line)
		}
	}
	_ = attempt(func() {
		action := g.action.WithFieldsMap(fields)
		if a.Severity == Error {
			action.Errorf("%s", clean(a.Text))
		} else {
			action.Warningf("%s", clean(a.Text))
		}
	})
}

// Output writes the value between two lines that nobody can foresee:
// go-githubactions has a delimiter that a value may contain (v1.3.1,
// multiLineFileDelim), and could so set other outputs.
func (g github) Output(name, value string) error {
	delimiter := rand.Text()
	return attempt(func() {
		g.action.IssueFileCommand(&githubactions.Command{
			Name:    "output",
			Message: name + "<<" + delimiter + "\n" + value + "\n" + delimiter,
		})
	})
}

// maxSummary is what GitHub takes of one step, in bytes; of more it takes
// nothing.
// https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-commands#step-isolation-and-limits
const maxSummary = 1 << 20

func (g github) Summary(markdown string) error {
	if len(markdown) >= maxSummary {
		return fmt.Errorf("tell GitHub: the summary has %d bytes, more than %d", len(markdown), maxSummary)
	}
	return attempt(func() { g.action.AddStepSummary(markdown) })
}
