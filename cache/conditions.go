package cache

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
)

// Conditions are those options of a build that are a part of the cache keys of
// its RUN steps. An entry tells those of its build, so that a build with others
// can say why it finds nothing.
type Conditions struct {
	Network string            // as --network has it; "" and default are the same
	Hosts   []string          // names of --add-host; their addresses are in no key
	Args    map[string]Hidden // values of --build-arg, of which only hashes are kept
}

// Hidden is a value that prints as nothing.
type Hidden string

func (Hidden) String() string   { return "***" }
func (Hidden) GoString() string { return "***" }

// MarshalText keeps the value out of JSON.
func (Hidden) MarshalText() ([]byte, error) { return []byte("***"), nil }

// maxConditions bounds their text, in bytes; what does not fit is left out.
const maxConditions = 3600

// argHashDigits are few on purpose: enough to tell that a value is another, but
// with 65,536 values to a hash nothing by which to find out a short one.
const argHashDigits = 4

// record is the text that an entry keeps.
func (c Conditions) record() string {
	kept := url.Values{"network": {c.network()}}
	if hosts := c.hosts(); len(hosts) > 0 {
		kept["host"] = hosts
	}
	salt := rand.Text()[:8]
	for _, name := range slices.Sorted(maps.Keys(c.Args)) {
		kept.Add("arg", name+"="+argHash(salt, name, c.Args[name]))
	}
	kept.Set("salt", salt)
	if len(kept.Encode()) > maxConditions {
		kept.Del("arg")
	}
	if text := kept.Encode(); len(text) <= maxConditions {
		return text
	}
	return ""
}

func (c Conditions) network() string {
	if c.Network == "" {
		return "default"
	}
	return c.Network
}

func (c Conditions) hosts() []string {
	return slices.Compact(slices.Sorted(slices.Values(c.Hosts)))
}

func argHash(salt, name string, value Hidden) string {
	sum := sha256.Sum256([]byte(salt + "\x00" + name + "\x00" + string(value)))
	return hex.EncodeToString(sum[:])[:argHashDigits]
}

// recorded are the conditions of a build as its entries tell them; the text is
// from a registry.
type recorded struct {
	network string
	hosts   []string
	salt    string
	args    map[string]string // hashes
}

// readConditions reads what record writes; ok says that there is something.
func readConditions(text string) (r recorded, ok bool) {
	kept, err := url.ParseQuery(text)
	if err != nil || kept.Get("network") == "" {
		return r, false
	}
	r = recorded{network: kept.Get("network"), salt: kept.Get("salt"), args: map[string]string{}}
	r.hosts = slices.Compact(slices.Sorted(slices.Values(kept["host"])))
	for _, arg := range kept["arg"] {
		if name, hash, ok := strings.Cut(arg, "="); ok && len(hash) == argHashDigits {
			r.args[name] = hash
		}
	}
	return r, true
}

// conditionsOf are those of the nearest cache of a stage that tells.
func (f Found) conditionsOf(stage string) (r recorded, ok bool) {
	for _, lineage := range f.Of(stage) {
		if entry := lineage.Content.Entry; entry != nil {
			if r, ok := readConditions(entry.Annotations.Conditions); ok {
				return r, true
			}
		}
	}
	return r, false
}

// Differences say, each in a sentence, why the RUN steps of a build under these
// conditions will not be found in the caches that it reads.
func (f Found) Differences(p Plan) []string {
	var all []string
	stages := map[string][]string{} // by what is said of them
	for _, stage := range p.Stages {
		r, ok := f.conditionsOf(stage.Name)
		if !ok {
			continue
		}
		tell := func(option, then, now string) {
			text := fmt.Sprintf("was made with %[1]s %[2]s, and this build has %[1]s %[3]s: its RUN steps will not be found there", option, then, now)
			if stages[text] == nil {
				all = append(all, text)
			}
			stages[text] = append(stages[text], stage.Name)
		}
		if now := p.Conditions.network(); r.network != now {
			tell("--network", r.network, now)
		}
		if now := p.Conditions.hosts(); !slices.Equal(r.hosts, now) {
			tell("--add-host", listed(r.hosts), listed(now))
		}
	}
	for i, text := range all {
		all[i] = fmt.Sprintf("the cache of %s %s", strings.Join(stages[text], ", "), text)
	}
	return all
}

func listed(names []string) string {
	if len(names) == 0 {
		return "for no name"
	}
	return "for " + strings.Join(names, ", ")
}

// ChangedArgs are the build arguments, by name and in order, whose values are
// not those with which the nearest cache of a stage was made.
func (f Found) ChangedArgs(p Plan, stage string) (names []string) {
	r, ok := f.conditionsOf(stage)
	if !ok {
		return nil
	}
	for _, name := range slices.Sorted(maps.Keys(p.Conditions.Args)) {
		if then, known := r.args[name]; known && then != argHash(r.salt, name, p.Conditions.Args[name]) {
			names = append(names, name)
		}
	}
	return names
}
