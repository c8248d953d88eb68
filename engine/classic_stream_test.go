package engine

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/docker-build-remote-cache/docker-build-remote-cache/stages"
	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite golden files")

// replay reads a recorded stream of Docker 20.10 with a clock that goes on by
// a second a message.
func replay(file *stages.File, stream []byte, labels bool) (*classicSolve, error) {
	s := &classicSolve{file: file, stage: len(file.Stages) - 1, labels: labels, first: true}
	now := time.Unix(0, 0)
	err := readMessages(bytes.NewReader(stream), func(m dockerMessage) {
		now = now.Add(time.Second)
		s.stream.observe(m, now)
	})
	if err != nil {
		s.end = Failed
	}
	return s, err
}

// describe is what was read of a stream, for people.
func describe(s *classicSolve, err error) string {
	var text strings.Builder
	s.each(func(step Step) {
		fmt.Fprintf(&text, "line %d, stage %d: %s %s: %s\n", step.Line, step.Stage, step.Status, step.Duration, step.Instruction)
	})
	b := &classicBuild{solves: []*classicSolve{s}}
	for stage := range s.file.Stages {
		image := cmpOr(b.stageImages()[stage], "none, partial "+cmpOr(b.partialImage(stage), "none"))
		fmt.Fprintf(&text, "stage %d: image %s\n", stage, image)
	}
	if err != nil {
		fmt.Fprintf(&text, "line %d: %v\n", s.failedLine(), err)
	}
	return text.String()
}

func cmpOr(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

func TestClassicStream(t *testing.T) {
	t.Parallel()
	dirs, err := filepath.Glob("testdata/classic/*")
	if err != nil || len(dirs) == 0 {
		t.Fatal("no recorded streams", err)
	}
	for _, dir := range dirs {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			file, stream := recorded(t, dir)
			s, err := replay(file, stream, bytes.Contains(stream, []byte(" : LABEL l=m")))
			got := describe(s, err)
			golden := filepath.Join(dir, "want.txt")
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func recorded(t testing.TB, dir string) (*stages.File, []byte) {
	t.Helper()
	dockerfile, err := os.ReadFile(filepath.Join(dir, "Dockerfile"))
	if err != nil {
		t.Fatal(err)
	}
	file, err := stages.Parse(dockerfile, stages.Options{})
	if err != nil {
		t.Fatal(err)
	}
	stream, err := os.ReadFile(filepath.Join(dir, "stream.json"))
	if err != nil {
		t.Fatal(err)
	}
	return file, stream
}

// At every moment of a stream what was read before stays true.
func TestClassicStreamOnlyGrows(t *testing.T) {
	t.Parallel()
	file, stream := recorded(t, "testdata/classic/cold")
	complete, cut := 0, 0
	for line := range bytes.Lines(stream) {
		cut += len(line)
		s, _ := replay(file, stream[:cut], true)
		now := 0
		s.each(func(step Step) {
			if step.Complete() {
				now++
			}
		})
		if now < complete {
			t.Fatalf("after %q %d steps are complete, %d before", line, now, complete)
		}
		complete = now
	}
	if complete != 4 {
		t.Errorf("%d steps are complete in the end, want 4", complete)
	}
}

func TestReadMessages(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		stream   string
		messages int
		err      string
	}{
		"empty":     {"", 0, ""},
		"messages":  {`{"stream":"a"}{"status":"b"}`, 2, ""},
		"error":     {`{"stream":"a"}{"errorDetail":{"message":"no"},"error":"no"}{"stream":"b"}`, 1, "no"},
		"truncated": {`{"stream":"a"}{"stre`, 1, "read the engine's answer: unexpected EOF"},
		"no JSON":   {`<html>`, 0, "read the engine's answer: invalid character '<' looking for beginning of value"},
	} {
		t.Run(name, func(t *testing.T) {
			messages := 0
			err := readMessages(strings.NewReader(test.stream), func(dockerMessage) { messages++ })
			if messages != test.messages {
				t.Errorf("%d messages, want %d", messages, test.messages)
			}
			if got := cmpErr(err); got != test.err {
				t.Errorf("error %q, want %q", got, test.err)
			}
		})
	}
}

func cmpErr(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func FuzzClassicStream(f *testing.F) {
	dirs, err := filepath.Glob("testdata/classic/*")
	if err != nil {
		f.Fatal(err)
	}
	for _, dir := range dirs {
		_, stream := recorded(f, dir)
		f.Add(stream)
	}
	file, _ := recorded(f, "testdata/classic/cold")
	f.Fuzz(func(t *testing.T, stream []byte) {
		for _, labels := range []bool{false, true} {
			s, err := replay(file, stream, labels)
			seen := map[int]bool{}
			s.each(func(step Step) {
				stage, in, ok := instructionAt(file, step.Line)
				switch {
				case !ok || stage != step.Stage || in.Text != step.Instruction:
					t.Fatalf("no step of the file: %+v", step)
				case seen[step.Line]:
					t.Fatalf("line %d twice", step.Line)
				case step.Duration < 0:
					t.Fatalf("negative duration: %+v", step)
				case err == nil && step.Status == Failed:
					t.Fatalf("failed without an error: %+v", step)
				}
				seen[step.Line] = true
			})
			b := &classicBuild{solves: []*classicSolve{s}}
			for stage := range b.stageImages() {
				if stage < 0 || stage >= len(file.Stages) {
					t.Fatalf("image of stage %d", stage)
				}
			}
			if line := s.failedLine(); line != 0 {
				if _, _, ok := file.Find(line); !ok {
					t.Fatalf("failed at line %d, which is none", line)
				}
			}
			for stage := range file.Stages {
				b.partialImage(stage)
			}
		}
	})
}

func TestLineInText(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int{
		"dockerfile parse error line 10: unknown instruction: RUNN":                10,
		"failed to create LLB definition: Dockerfile parse error on line 3: no":    3,
		"dockerfile parse error line 99999999999999999999: unknown instruction: X": 0,
		"exit code: 3": 0,
	} {
		if got := lineInText(errors.New(text)); got != want {
			t.Errorf("%q: line %d, want %d", text, got, want)
		}
	}
}

func TestClassicSplitsStages(t *testing.T) {
	t.Parallel()
	parse := func(text string) *stages.File {
		file, err := stages.Parse([]byte(text), stages.Options{})
		if err != nil {
			t.Fatal(err)
		}
		return file
	}
	plain := parse("FROM a AS a\nFROM b AS b\nFROM c AS c\nFROM scratch AS d\nFROM e\n")
	triggers := parse("FROM a AS a\nFROM b AS b\nONBUILD RUN x\nFROM c AS c\nFROM d AS d\nFROM e\n")
	for name, test := range map[string]struct {
		request Request
		pulled  []int
		want    [][]int
	}{
		"cold":           {Request{File: plain, Target: 4}, nil, [][]int{{0, 1, 2, 4}}},
		"all pulled":     {Request{File: plain, Target: 4}, []int{0, 1, 2, 4}, [][]int{{0}, {1}, {2}, {4}}},
		"some pulled":    {Request{File: plain, Target: 4}, []int{2}, [][]int{{0, 1}, {2}, {4}}},
		"earlier target": {Request{File: plain, Target: 1}, nil, [][]int{{0, 1}, {2, 4}}},
		"keep going":     {Request{File: plain, Target: 4, KeepGoing: true}, nil, [][]int{{0}, {1}, {2}, {4}}},
		"triggers":       {Request{File: triggers, Target: 4}, []int{0, 1, 2, 3, 4}, [][]int{{0}, {1, 2, 3, 4}}},
	} {
		t.Run(name, func(t *testing.T) {
			test.request.Stages = []int{0, 1, 2, 3, 4}
			b := &classicBuild{request: test.request, pulled: map[int][]string{}}
			for _, stage := range test.pulled {
				b.pulled[stage] = []string{"image"}
			}
			var got [][]int
			for rest := b.buildable(); len(rest) > 0; {
				var together []int
				together, rest = b.next(rest)
				got = append(got, slices.Clone(together))
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
