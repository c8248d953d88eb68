package cache

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/docker-build-remote-cache/docker-build-remote-cache/registry"
)

// What is kept is what is read, to the millisecond, and of too much the
// longest.
func TestTimesRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		kept := times{}
		for range rapid.IntRange(0, 400).Draw(t, "steps") {
			ms := rapid.Int64Range(0, 1e8).Draw(t, "ms")
			kept[timeKey(rapid.String().Draw(t, "instruction"))] = time.Duration(ms) * time.Millisecond
		}
		text := kept.String()
		if len(text) > maxTimes || len(text) > registry.MaxAnnotation {
			t.Fatalf("%d bytes", len(text))
		}
		read := parseTimes(text)
		var shortest time.Duration = maxStepTime
		for key, took := range read {
			if kept[key] != took {
				t.Fatalf("%s took %v, not %v", key, took, kept[key])
			}
			shortest = min(shortest, took)
		}
		for key, took := range kept {
			if _, ok := read[key]; !ok && took > shortest {
				t.Fatalf("%v was left out, %v was not", took, shortest)
			}
		}
	})
}

func TestTimesOfARegistryAreNotTrusted(t *testing.T) {
	t.Parallel()
	key := timeKey("RUN make")
	got := parseTimes("a=1 " + key + "=7 = =1 " + key[:11] + "x=-5 " + key[:11] + "y=99999999999999 " + key[:11] + "z=1e3 \x00")
	if diff := cmp.Diff(times{key: 7 * time.Millisecond}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func FuzzTimes(f *testing.F) {
	f.Add("0123456789ab=12 0123456789ac=0")
	f.Fuzz(func(t *testing.T, text string) {
		read := parseTimes(text)
		if again := parseTimes(read.String()); len(text) < maxTimes/2 && !cmp.Equal(read, again) && !strings.ContainsAny(text, "+") {
			t.Errorf("%q became %v, then %v", text, read, again)
		}
	})
}

// A step that ran counts as it ran, one that was found as the nearest cache
// tells.
func TestTook(t *testing.T) {
	t.Parallel()
	slot := Slot{Level: LevelBranch, Branch: "feat", Stage: "builder"}
	lineage := func(kept times) Lineage {
		return Lineage{Slot: slot, Content: registry.Content{Kind: registry.KindEntry, Entry: &registry.Entry{
			Annotations: registry.Annotations{Times: kept.String()},
		}}}
	}
	make, test := timeKey("RUN make"), timeKey("RUN test")
	f := Found{Lineages: []Lineage{
		{Slot: slot, Content: registry.Content{Kind: registry.KindCache}},
		lineage(times{make: 5 * time.Second}),
		lineage(times{make: 9 * time.Second, test: time.Second}),
	}}
	for instruction, want := range map[string]time.Duration{"RUN make": 5 * time.Second, "RUN test": time.Second, "RUN other": 0} {
		if got := f.Took("builder", instruction); got != want {
			t.Errorf("%s took %v, want %v", instruction, got, want)
		}
	}
	s := &Saver{found: f}
	got := s.timesOf(CompletedStage{Steps: []StepTime{{"RUN make", 7 * time.Second}, {"RUN test", 0}, {"RUN other", 0}}}, "builder")
	if diff := cmp.Diff(times{make: 7 * time.Second, test: time.Second}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
