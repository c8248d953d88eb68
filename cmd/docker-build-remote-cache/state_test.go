package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// Reading a state back asks for the same variables with the same answers,
// whatever the environment is then.
func TestStateRecordsTheEnvironment(t *testing.T) {
	t.Parallel()
	then := surroundings{lookupEnv: environment(map[string]string{"A": "1", "UNREAD": "x"})}
	recorded, read := then.recordEnvironment()
	recorded.getenv("A")
	recorded.getenv("B")
	raw, err := json.Marshal(state{Schema: stateSchema, Environment: read})
	if err != nil {
		t.Fatal(err)
	}
	st, err := decodeState(raw)
	if err != nil {
		t.Fatal(err)
	}
	now := surroundings{lookupEnv: environment(map[string]string{"A": "2", "B": "2", "C": "2"})}.replayEnvironment(st.Environment)
	got := map[string]string{}
	for _, name := range []string{"A", "B", "C", "UNREAD"} {
		if value, ok := now.lookupEnv(name); ok {
			got[name] = value
		}
	}
	if diff := cmp.Diff(map[string]string{"A": "1", "C": "2"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestStateFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "state")
	if st, err := readState(path); st != nil || err != nil {
		t.Fatalf("without a file: %v, %v", st, err)
	}
	want := &state{Schema: stateSchema, Version: "1", Arguments: []string{"app"}, Dockerfile: []byte("FROM scratch"), Held: []int{2}}
	if err := errors.Join((&state{Schema: stateSchema}).write(path), want.write(path)); err != nil {
		t.Fatal(err)
	}
	got, err := readState(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v: others could read build arguments", info.Mode(), err)
	}
	left, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(left) != 1 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	if err := want.write(filepath.Join(t.TempDir(), "no", "state")); err == nil {
		t.Error("written into a directory that does not exist")
	}
}

func TestStateOfAnotherVersion(t *testing.T) {
	t.Parallel()
	for name, raw := range map[string]string{"another schema": `{"schema":2}`, "no JSON": "{", "another type": `{"schema":1,"held":"x"}`} {
		if _, err := decodeState([]byte(raw)); err == nil || !strings.HasPrefix(err.Error(), "read --state: ") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Whatever a file holds, reading it neither panics nor yields what cannot be
// written again.
func FuzzDecodeState(f *testing.F) {
	f.Add([]byte(`{"schema":1,"arguments":["app"],"environment":{"A":null,"B":"1"},"build":{"platforms":[{"definition":"AA=="}]}}`))
	f.Add([]byte(`{"schema":1,"held":[1,2],"facts":{"Provider":"github"}}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		st, err := decodeState(raw)
		if err != nil {
			return
		}
		again, err := json.Marshal(st)
		if err != nil {
			t.Fatal(err)
		}
		back, err := decodeState(again)
		if err != nil {
			t.Fatalf("%v: %s", err, again)
		}
		if twice, _ := json.Marshal(back); !bytes.Equal(again, twice) {
			t.Errorf("%s became %s", again, twice)
		}
	})
}

func TestParseSave(t *testing.T) {
	t.Parallel()
	parse := func(vars map[string]string, args ...string) (*saveOptions, error) {
		return parseSave(args, environment(vars))
	}
	o, err := parse(nil, "--state", "x", "--timeout", "90s")
	if err != nil || o.state != "x" || o.timeout != 90*time.Second {
		t.Errorf("got %+v, %v", o, err)
	}
	o, err = parse(map[string]string{ownPrefix + "STATE": "y"})
	if err != nil || o.state != "y" || o.timeout != saveTimeout {
		t.Errorf("from the environment: got %+v, %v", o, err)
	}
	for want, args := range map[string][]string{
		"--state is missing":        nil,
		"unexpected argument":       {"--state", "x", "app"},
		"unknown option --stat":     {"--stat", "x"},
		"invalid value for --timeo": {"--state", "x", "--timeout", "soon"},
	} {
		var usage *usageError
		if _, err := parse(nil, args...); !errors.As(err, &usage) || !strings.HasPrefix(usage.message, want) {
			t.Errorf("%q: got %v, want %q", args, err, want)
		}
	}
}

func TestGrace(t *testing.T) {
	t.Parallel()
	for provider, want := range map[string]time.Duration{"github": graceShort, "azure": graceShort, "circleci": graceLong, "none": graceLong} {
		if got := grace(&options{}, provider); got != want {
			t.Errorf("%s: %v, want %v", provider, got, want)
		}
		if got := grace(&options{grace: time.Second}, provider); got != time.Second {
			t.Errorf("%s with --grace 1s: %v", provider, got)
		}
	}
}

// What follows a build goes on after a signal, for as long as the grace, which
// begins with the signal.
func TestOutliving(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, signal := context.WithCancelCause(t.Context())
		outlived, release := outliving(ctx, time.Minute)
		defer release()
		time.Sleep(time.Hour)
		signal(&signalError{syscall.SIGINT})
		time.Sleep(59 * time.Second)
		synctest.Wait()
		if outlived.Err() != nil {
			t.Errorf("ended after 59 s: %v", context.Cause(outlived))
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if !errors.As(context.Cause(outlived), new(*graceError)) {
			t.Errorf("after 61 s: %v", context.Cause(outlived))
		}
	})
}
