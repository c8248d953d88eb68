package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/docker-build-remote-cache/docker-build-remote-cache/ci"
	"github.com/docker-build-remote-cache/docker-build-remote-cache/ci/dialect"
	"github.com/docker-build-remote-cache/docker-build-remote-cache/engine"
	"github.com/docker-build-remote-cache/docker-build-remote-cache/proxies"
	"github.com/docker-build-remote-cache/docker-build-remote-cache/report"
	"github.com/docker-build-remote-cache/docker-build-remote-cache/stages"
	"golang.org/x/term"
)

// platform is the CI platform that is told what the run does; nil is none.
type platform struct {
	dialect   dialect.Dialect
	artifacts string // directory for files to keep, "" for none
	grouped   bool
}

// onPlatform finds the platform, and sees to it that it obeys nobody but us:
// from here on whatever is printed passes a dialect.Log. A terminal obeys
// nobody, and BuildKit's display has to recognise it.
func (s surroundings) onPlatform() surroundings {
	log := dialect.NewLog(s.stderr)
	if !isTerminal(s.stderr) {
		s.stderr = log
	}
	s.platform = &platform{artifacts: s.artifacts()}
	s.platform.dialect = dialect.New(ci.Provider(s.getenv), dialect.Options{
		Log: log, Getenv: s.getenv, Artifacts: s.platform.artifacts,
	})
	return s
}

// defused is an output for text in which a platform finds no command.
func defused(w io.Writer) io.Writer {
	if isTerminal(w) {
		return w
	}
	return dialect.NewLog(w)
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// group begins a new group of the log, where one can be folded.
func (p *platform) group(title string) {
	if p != nil {
		p.endGroup()
		p.dialect.Group(title)
		p.grouped = true
	}
}

func (p *platform) endGroup() {
	if p != nil && p.grouped {
		p.dialect.EndGroup()
		p.grouped = false
	}
}

// annotate marks a line of a file, 0 for none, with an error or a warning.
func (p *platform) annotate(severity dialect.Severity, file string, line int, text string) {
	if p == nil {
		return
	}
	if line == 0 || file == "-" {
		file = ""
	}
	p.dialect.Annotate(dialect.Annotation{Severity: severity, File: file, Line: line, Text: text})
}

// annotateError marks where an error that ends the run before the build is.
func (p *platform) annotateError(err error, message string) {
	var located *dockerfileError
	var syntax *stages.SyntaxError
	var volatile *stages.VolatileError
	switch {
	case errors.As(err, &located) && errors.As(err, &syntax):
		p.annotate(dialect.Error, located.path, syntax.Line, message)
		return
	case errors.As(err, &located) && errors.As(err, &volatile):
		p.annotate(dialect.Error, located.path, volatile.Line, message)
		return
	}
	p.annotate(dialect.Error, "", 0, message)
}

// maxSecret bounds the secrets that are masked, in bytes. What is longer is no
// password or key, and would make the platform search the log for a book.
const maxSecret = 64 << 10

// maskSecrets hides the values of --secret from the log: a step may print
// them, and a platform knows only the secrets that it keeps itself. A pipe can
// be read once only, and that is for the build: <(pass show npm).
func (s surroundings) maskSecrets(secrets []engine.Secret) {
	if s.platform == nil {
		return
	}
	for _, secret := range secrets {
		value := s.getenv(secret.Env)
		if secret.File != "" {
			if info, err := os.Stat(secret.File); err != nil || !info.Mode().IsRegular() {
				continue
			}
			file, err := os.Open(secret.File)
			if err != nil {
				continue // the build says so
			}
			text, err := io.ReadAll(io.LimitReader(file, maxSecret+1))
			file.Close()
			if err != nil {
				continue
			}
			value = string(text)
		}
		s.mask(value)
	}
}

// maskProxies hides the passwords in the addresses of proxies from the log: a
// package manager may print them.
func (s surroundings) maskProxies(settings proxies.Settings) {
	for _, tool := range proxies.Tools() {
		if a, ok := settings.Of(tool); ok && a.Password() != "" {
			s.mask(a.Password())
		}
	}
}

// mask hides a value from the log.
func (s surroundings) mask(value string) {
	if s.platform != nil && len(value) <= maxSecret {
		s.platform.dialect.Mask(value)
	}
}

// quiet is how long a build may print nothing. CircleCI ends a step after ten
// minutes without output, Travis as well; others are more patient.
// https://circleci.com/docs/reference/configuration-reference/#run
const quiet = 4*time.Minute + 30*time.Second

// heartbeat is the quiet of a build's progress, 0 for any: a terminal shows
// the time that passes, and JSON is not for people.
func (s surroundings) heartbeat(o *options) time.Duration {
	if isTerminal(s.stderr) || o.progress == "rawjson" {
		return 0
	}
	return quiet
}

// artifacts is a directory, which need not exist yet, for the files that a
// platform is to keep of this process; "" where it has no use for any.
func (s surroundings) artifacts() string {
	process := strconv.Itoa(os.Getpid())
	switch ci.Provider(s.getenv) {
	case "github":
		return filepath.Join(cmp.Or(s.getenv("RUNNER_TEMP"), os.TempDir()), program, process)
	case "azure":
		return filepath.Join(cmp.Or(s.getenv("AGENT_TEMPDIRECTORY"), os.TempDir()), program, process)
	case "circleci":
		// A place that a pipeline can name, for all builds of a job.
		return filepath.Join(os.TempDir(), program, process)
	}
	return ""
}

// reportFile is where the report goes that nobody has named a file for: a
// platform hands it to later steps. "" for nowhere.
func (p *platform) reportFile() (string, error) {
	if p == nil || p.artifacts == "" {
		return "", nil
	}
	if err := os.MkdirAll(p.artifacts, 0o755); err != nil {
		return "", fmt.Errorf("write report: %w", err)
	}
	return filepath.Join(p.artifacts, "report.json"), nil
}

// tell is the end of the run: the report becomes outputs and a summary, and
// what was lost annotations.
func (p *platform) tell(r report.Report, file string) error {
	if p == nil {
		return nil
	}
	warnings := slices.Concat(r.Warnings, r.Losses())
	for _, warning := range warnings[:min(len(warnings), mostAnnotations)] {
		p.annotate(dialect.Warning, "", 0, warning)
	}
	return errors.Join(
		p.dialect.Output("image", r.Image),
		p.dialect.Output("digest", r.Result.Digest),
		p.dialect.Output("cache-hit-rate", hitRate(r)),
		p.dialect.Output("report", file),
		p.dialect.Summary(r.Markdown()),
	)
}

// mostAnnotations is below the ten of a kind that GitHub shows of a step.
const mostAnnotations = 8

// hitRate is the part of the steps that was cached, from 0 to 1 with two
// decimals; "" when there were none. It is rounded down: 1 is all of them.
func hitRate(r report.Report) string {
	cached, all := 0, 0
	for _, stage := range r.Stages {
		for _, step := range stage.Steps {
			all++
			if step.Status == report.Cached {
				cached++
			}
		}
	}
	if all == 0 {
		return ""
	}
	return strconv.FormatFloat(float64(cached*100/all)/100, 'f', 2, 64)
}
