package cache

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strconv"
	"strings"
	"time"
)

// times say how long the steps of a stage took when they last ran, by
// timeKey. An entry carries them, so that whoever finds its steps knows what
// they would have cost.
type times map[string]time.Duration

// maxTimes bounds their text, in bytes. It leaves room for the 150 longest.
const maxTimes = 3600

// timeKeyDigits are enough to tell the steps of one stage apart.
const timeKeyDigits = 12

// timeKey names a step by what it does: its line moves too easily.
func timeKey(instruction string) string {
	sum := sha256.Sum256([]byte(instruction))
	return hex.EncodeToString(sum[:])[:timeKeyDigits]
}

// String is KEY=MILLISECONDS, longest first, in one line.
func (t times) String() string {
	keys := make([]string, 0, len(t))
	for key := range t {
		keys = append(keys, key)
	}
	slices.SortFunc(keys, func(a, b string) int { return cmp.Or(cmp.Compare(t[b], t[a]), cmp.Compare(a, b)) })
	var b strings.Builder
	for _, key := range keys {
		item := key + "=" + strconv.FormatInt(t[key].Milliseconds(), 10) + " "
		if b.Len()+len(item) > maxTimes {
			break
		}
		b.WriteString(item)
	}
	return strings.TrimSuffix(b.String(), " ")
}

// maxStepTime is longer than any CI lets a job run.
const maxStepTime = 30 * 24 * time.Hour

// parseTimes reads what String writes and leaves out what it does not: the
// text is from a registry, and a time that is not known costs nothing.
func parseTimes(text string) times {
	t := times{}
	for _, item := range strings.Fields(text) {
		key, value, _ := strings.Cut(item, "=")
		ms, err := strconv.ParseInt(value, 10, 64)
		if err == nil && len(key) == timeKeyDigits && ms >= 0 && ms <= maxStepTime.Milliseconds() {
			t[key] = time.Duration(ms) * time.Millisecond
		}
	}
	return t
}

// Took is how long a step of a stage took when it last ran, by the nearest
// cache of the stage that tells; 0 if none does.
func (f Found) Took(stage, instruction string) time.Duration {
	key := timeKey(instruction)
	for _, lineage := range f.Of(stage) {
		if entry := lineage.Content.Entry; entry != nil {
			if took, known := parseTimes(entry.Annotations.Times)[key]; known {
				return took
			}
		}
	}
	return 0
}

// timesOf are the times to keep of a stage: of the steps that ran, and of
// those that were found what is known.
func (s *Saver) timesOf(stage CompletedStage, name string) times {
	t := times{}
	for _, step := range stage.Steps {
		if step.Worked > 0 {
			t[timeKey(step.Instruction)] = step.Worked
		} else if took := s.found.Took(name, step.Instruction); took > 0 {
			t[timeKey(step.Instruction)] = took
		}
	}
	return t
}
