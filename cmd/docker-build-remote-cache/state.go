package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/docker-build-remote-cache/docker-build-remote-cache/ci"
	"github.com/docker-build-remote-cache/docker-build-remote-cache/engine"
)

const (
	stateSchema = 1
	// maxState bounds a state file that is read, in bytes: definitions of very
	// large builds are a few MiB.
	maxState = 64 << 20
)

// state is what save needs to save what a build left on the engine. Written
// before the build and then after every step, it is there when the process is
// killed. It holds the command line and build arguments, but no secrets: those
// are named by file or variable, and saving runs no step.
type state struct {
	Schema  int    `json:"schema"`
	Version string `json:"version"` // of this program
	// Saved says that nothing is left to do.
	Saved bool `json:"saved"`

	Directory string   `json:"directory"` // in which the build was started
	Arguments []string `json:"arguments"`
	// Environment is what was read of it; null is a variable that was not set.
	Environment map[string]*string `json:"environment"`
	Dockerfile  []byte             `json:"dockerfile"`
	Facts       ci.Facts           `json:"facts"`
	// Build is how far it came, null before it was planned.
	Build *engine.Snapshot `json:"build"`
	// Held are the lines of the steps whose results were in the registry then.
	Held []int `json:"held"`
}

// recordEnvironment makes s remember which variables are read through it.
func (s surroundings) recordEnvironment() (surroundings, map[string]*string) {
	read := map[string]*string{}
	lookup := s.lookupEnv
	s.lookupEnv = func(name string) (string, bool) {
		value, ok := lookup(name)
		if read[name] = nil; ok {
			read[name] = &value
		}
		return value, ok
	}
	return s, read
}

// withoutProxies leaves the addresses of proxies, which may hold passwords, out
// of the arguments that a state file holds: to save, no step runs. But it has to
// be known whether the steps are as they are written.
func withoutProxies(args []string, asWritten bool) []string {
	var kept []string
	if asWritten {
		kept = []string{"--proxy=none"}
	}
	for i, arg := range args {
		value := i > 0 && args[i-1] == "--proxy"
		if !value && arg != "--proxy" && !strings.HasPrefix(arg, "--proxy=") {
			kept = append(kept, arg)
		}
	}
	return kept
}

// forgetProxies takes them out of what was read of the environment.
func forgetProxies(read map[string]*string) { delete(read, ownPrefix+"PROXY") }

// forgetSecrets takes the values of secrets out of what was read of the
// environment: whether there is a variable of a secret's name was asked for.
func forgetSecrets(read map[string]*string, secrets []engine.Secret) {
	for _, secret := range secrets {
		delete(read, secret.Env)
	}
}

// replayEnvironment makes s read what was read before, and the rest anew.
func (s surroundings) replayEnvironment(read map[string]*string) surroundings {
	lookup := s.lookupEnv
	s.lookupEnv = func(name string) (string, bool) {
		value, known := read[name]
		switch {
		case !known:
			return lookup(name)
		case value == nil:
			return "", false
		}
		return *value, true
	}
	return s
}

// write replaces the file at once, so that a reader never finds half of it.
func (st *state) write(path string) error {
	raw, err := json.Marshal(st)
	if err != nil {
		return fmt.Errorf("write --state: %w", err)
	}
	next, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*") // mode 0600
	if err != nil {
		return fmt.Errorf("write --state: %w", err)
	}
	_, err = next.Write(raw)
	if err = errors.Join(err, next.Close()); err == nil {
		err = os.Rename(next.Name(), path)
	}
	if err != nil {
		os.Remove(next.Name())
		return fmt.Errorf("write --state: %w", err)
	}
	return nil
}

// readState reads a state file; nil if there is none.
func readState(path string) (*state, error) {
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read --state: %w", err)
	}
	defer file.Close()
	raw, err := io.ReadAll(io.LimitReader(file, maxState+1))
	if err != nil {
		return nil, fmt.Errorf("read --state: %w", err)
	}
	return decodeState(raw)
}

func decodeState(raw []byte) (*state, error) {
	if len(raw) > maxState {
		return nil, fmt.Errorf("read --state: larger than %d bytes", maxState)
	}
	st := &state{}
	if err := json.Unmarshal(raw, st); err != nil {
		return nil, fmt.Errorf("read --state: %w", err)
	}
	if st.Schema != stateSchema {
		return nil, fmt.Errorf("read --state: schema %d, this version reads %d", st.Schema, stateSchema)
	}
	return st, nil
}
