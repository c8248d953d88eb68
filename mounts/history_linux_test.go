package mounts

import (
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// Whatever is in a mount, and whatever has been done to it from save to save:
// the newest state restores it to the last bit, and saving what was restored
// finds nothing to save.
func TestAnyHistoryComesBack(t *testing.T) {
	t.Parallel()
	needRoot(t)
	rapid.Check(t, func(rt *rapid.T) {
		parent, err := os.MkdirTemp(t.TempDir(), "")
		if err != nil {
			rt.Fatal(err)
		}
		defer os.RemoveAll(parent)
		blobs := newStore()
		var state *State
		var mark Mark
		dir, err := os.MkdirTemp(parent, "mount")
		if err != nil {
			rt.Fatal(err)
		}
		for range rapid.IntRange(1, 3).Draw(rt, "saves") {
			g := gardener{dir, rt}
			for range rapid.IntRange(0, 10).Draw(rt, "changes") {
				g.tend()
			}
			want := fingerprint(rt, dir)
			next, saved := saveDir(t, dir, state, mark, blobs)
			if len(want) != next.Entries+1 || saved.Entries != next.Entries {
				rt.Fatalf("%d entries, %+v", len(want)-1, saved)
			}
			raw, err := next.Manifest(nil)
			if err != nil {
				rt.Fatal(err)
			}
			parsed, _, err := ParseState(raw)
			if err != nil {
				rt.Fatal(err)
			}
			if diff := cmp.Diff(next, parsed); diff != "" {
				rt.Fatalf("the state does not come back from its manifest:\n%s", diff)
			}
			state = &parsed

			fresh, err := os.MkdirTemp(parent, "mount")
			if err != nil {
				rt.Fatal(err)
			}
			restored := restoreDir(t, fresh, parsed, blobs)
			if diff := cmp.Diff(want, fingerprint(rt, fresh)); diff != "" {
				rt.Fatalf("restored (-want +got):\n%s", diff)
			}
			for _, mark := range []Mark{{}, restored.Mark} {
				puts := blobs.puts
				if same, again := saveDir(t, fresh, state, mark, blobs); !again.Unchanged || blobs.puts != puts || !cmp.Equal(same, *state) {
					rt.Fatalf("saving what was restored: %+v", again)
				}
			}
			switch rapid.IntRange(0, 2).Draw(rt, "next on") {
			case 0: // the same mount, as a warm engine
				mark = Mark{}
			case 1:
				dir, mark = fresh, restored.Mark
			case 2:
				dir, mark = fresh, Mark{}
			}
		}
	})
}
