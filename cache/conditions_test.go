package cache

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/docker-build-remote-cache/docker-build-remote-cache/registry"
)

// foundWith is a cache of a stage that a build made under conditions.
func foundWith(stage, conditions string) Lineage {
	return Lineage{Slot: Slot{Stage: stage}, Content: registry.Content{Entry: &registry.Entry{Annotations: registry.Annotations{Conditions: conditions}}}}
}

func TestDifferences(t *testing.T) {
	t.Parallel()
	plain := Conditions{Hosts: []string{"b", "a", "b"}, Args: map[string]Hidden{"A": "1", "B": "2", "NEW": "3"}}
	then := Conditions{Network: "host", Hosts: []string{"a"}, Args: map[string]Hidden{"A": "1", "B": "changed", "GONE": "4"}}
	found := Found{Lineages: []Lineage{
		foundWith("one", ""), foundWith("one", then.record()), foundWith("one", plain.record()),
		foundWith("two", plain.record()), foundWith("three", then.record()), foundWith("four", "%zz"),
	}}
	p := Plan{Conditions: plain}
	for _, name := range []string{"zero", "one", "two", "three", "four"} {
		p.Stages = append(p.Stages, StagePlan{Name: name})
	}
	want := []string{
		"the cache of one, three was made with --network host, and this build has --network default: its RUN steps will not be found there",
		"the cache of one, three was made with --add-host for a, and this build has --add-host for a, b: its RUN steps will not be found there",
	}
	if diff := cmp.Diff(want, found.Differences(p)); diff != "" {
		t.Error(diff)
	}
	for stage, want := range map[string][]string{"zero": nil, "one": {"B"}, "two": nil, "four": nil} {
		if diff := cmp.Diff(want, found.ChangedArgs(p, stage)); diff != "" {
			t.Errorf("%s: %s", stage, diff)
		}
	}
	p.Conditions.Network, then.Network = "default", "default"
	if got := (Found{Lineages: []Lineage{foundWith("two", plain.record())}}).Differences(p); got != nil {
		t.Errorf("the default network differs from itself: %v", got)
	}
}

// What is recorded can be kept, says that equal is equal, and shows no value.
func TestConditionsAreRecorded(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		values := rapid.MapOfN(rapid.StringMatching(`[A-Z_]{1,40}`), rapid.StringMatching(`secret-[ -~]{0,40}`), 0, 200)
		c := Conditions{Network: rapid.SampledFrom([]string{"", "host", "none"}).Draw(t, "network"), Hosts: rapid.SliceOf(rapid.String()).Draw(t, "hosts"), Args: map[string]Hidden{}}
		for name, value := range values.Draw(t, "args") {
			c.Args[name] = Hidden(value)
		}
		text := c.record()
		if err := (registry.Annotations{Level: registry.LevelUnprefixed, Conditions: text}).Validate(); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(text, "secret-") || strings.Contains(fmt.Sprintf("%v %+v %#v %q", c, c, c, c), "secret-") {
			t.Fatalf("a value is shown: %s", text)
		}
		found, p := Found{Lineages: []Lineage{foundWith("s", text)}}, Plan{Conditions: c, Stages: []StagePlan{{Name: "s"}}}
		if got := append(found.Differences(p), found.ChangedArgs(p, "s")...); len(got) > 0 {
			t.Fatalf("differs from itself: %v", got)
		}
	})
}

func FuzzReadConditions(f *testing.F) {
	f.Add(Conditions{Network: "host", Hosts: []string{"a"}, Args: map[string]Hidden{"A": "1"}}.record())
	f.Fuzz(func(t *testing.T, text string) {
		found := Found{Lineages: []Lineage{foundWith("s", text)}}
		p := Plan{Conditions: Conditions{Args: map[string]Hidden{"A": "1"}}, Stages: []StagePlan{{Name: "s"}}}
		found.Differences(p)
		if changed := found.ChangedArgs(p, "s"); len(changed) > 1 {
			t.Errorf("%v", changed)
		}
	})
}
