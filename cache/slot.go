package cache

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"strconv"
	"strings"

	"github.com/docker-build-remote-cache/docker-build-remote-cache/registry"
	"github.com/opencontainers/go-digest"
)

// Level is how near a cache is to the branch that is being built (issue A,
// "Fallback tags").
type Level string

// The levels, nearest first. Base and default are branches like any other:
// their slots are those which builds of these branches keep for themselves.
const (
	LevelBranch     Level = "branch"
	LevelBase       Level = "base" // of a pull request
	LevelDefault    Level = "default"
	LevelUnprefixed Level = "unprefixed"
	// LevelGiven is that of caches named with --cache-from: nothing is known
	// of who wrote them. No slot has it.
	LevelGiven Level = "cache-from"
)

// Slot is the identity of one place where a cache is kept. What slot a tag
// really holds is told by its annotations alone: different slots may want the
// same plain tag.
type Slot struct {
	Level Level
	// Branch of the slot; empty if it is not known. An unprefixed slot is
	// shared by all branches: there it only says who writes.
	Branch string
	// Stage is its name, or its index if it has none.
	Stage string
	// Final is the stage the image is made of. There is one in a slot's
	// Dockerfile, so its name is no part of the identity.
	Final bool
	// Scope keeps the jobs of a matrix apart, such as linux/amd64; empty for
	// none.
	Scope string
}

// The tag suffixes that tell identities apart, in hexadecimal digits. They
// differ so that a plain tag which needs its hash is not the hashed one.
const (
	plainHashDigits  = 8
	hashedHashDigits = 16
)

// Tags are the names of s, both valid tags. The plain one is what people
// expect, by the table of issue A: feat-x-builder and feat-x on a branch,
// builder and latest unprefixed; a scope is appended after a dot. Another
// slot, or somebody's image, may want it too: the hashed one is for whoever
// finds the plain one taken, and no two slots have the same.
func (s Slot) Tags() (plain, hashed string) {
	id := s.identity()
	var name tagName
	if id.Level != registry.LevelUnprefixed {
		name.join("", id.Branch)
	}
	switch {
	case !id.Final:
		name.join("-", id.Stage)
	case id.Level == registry.LevelUnprefixed:
		name.join("", "latest")
	}
	if id.Scope != "" {
		name.join(".", id.Scope)
	}
	kind := "final"
	if !id.Final {
		kind = "stage"
	}
	hash := identityHash(kind, id.Level, id.Branch, id.Stage, id.Scope)
	plain = name.joined
	if !name.exact() {
		plain = name.withSuffix("-" + hash[:plainHashDigits])
	}
	return plain, name.withSuffix("-" + hash[:hashedHashDigits])
}

// PartialTag is where an image that carries its cache is kept of a stage that
// a build did not finish, so that it does not replace a more complete one. Its
// hash keeps it apart from the tags of slots.
func (s Slot) PartialTag() string {
	_, hashed := s.Tags()
	hash := hashed[len(hashed)-hashedHashDigits:]
	suffix := "-partial-" + hash
	name := strings.TrimSuffix(hashed[:len(hashed)-len(hash)], "-")
	return name[:min(len(name), registry.MaxTagLength-len(suffix))] + suffix
}

// identity is s without what does not distinguish it from other slots: what
// Matches compares and the hash of a tag is made of.
func (s Slot) identity() registry.Annotations {
	a := s.Annotations()
	if a.Level == registry.LevelUnprefixed {
		a.Branch = ""
	}
	if a.Final {
		a.Stage = ""
	}
	return a
}

// Annotations are those of s; the caller adds who writes, with what and when.
func (s Slot) Annotations() registry.Annotations {
	level := registry.LevelBranch
	if s.Level == LevelUnprefixed {
		level = registry.LevelUnprefixed
	}
	return registry.Annotations{
		Level:  level,
		Branch: utf8Text(s.Branch),
		Stage:  utf8Text(s.Stage),
		Final:  s.Final,
		Scope:  utf8Text(s.Scope),
	}
}

// Matches reports whether annotations found at a tag are those of s.
func (s Slot) Matches(found registry.Annotations) bool {
	other := Slot{Level: LevelBranch, Branch: found.Branch, Stage: found.Stage, Final: found.Final, Scope: found.Scope}
	if found.Level == registry.LevelUnprefixed {
		other.Level = LevelUnprefixed
	}
	return s.identity() == other.identity()
}

// Owner is who keeps the caches of all its stages together: one branch in one
// scope. An empty branch is the one of builds whose branch is not known.
type Owner struct{ Branch, Scope string }

// CacheExportTag is where BuildKit's registry exporter writes the cache of
// all the owner's stages, a bare cache manifest that nobody can run. Its hash
// keeps it apart from the tags of slots.
func (o Owner) CacheExportTag() string { return o.tag("cache") }

// PartialTag is where a build that did not finish keeps what it completed, so
// that it does not replace a more complete cache. Its hash keeps it apart
// from the tags of slots.
func (o Owner) PartialTag() string { return o.tag("partial") }

// StagingTag is where BuildKit's registry exporter, which knows nothing of
// other builds, writes; nobody reads it. What is to stay is united with what
// stands at the other tags.
func (o Owner) StagingTag() string { return o.tag("staging") }

// ScopesTag is where a branch lists the scopes it has caches in.
func (o Owner) ScopesTag() string { return Owner{Branch: o.Branch}.tag("scopes") }

// viewTags is how many merged views of an owner are kept at most.
const viewTags = 4

// ViewTag is where a merged view of the owner's is kept. Its name depends on
// the content, so that builds that begin at the same time seldom use the same
// one, and there are few of them, so that later views take the places of
// earlier ones without a registry that can list and delete. Builds import a
// view by digest: one whose tag is taken a moment too early is still there.
func (o Owner) ViewTag(content digest.Digest) string {
	number := 0
	for _, b := range []byte(content.Encoded()) {
		number = (number + int(b)) % viewTags
	}
	return o.tag("view" + strconv.Itoa(number))
}

func (o Owner) tag(purpose string) string {
	branch, scope := utf8Text(o.Branch), utf8Text(o.Scope)
	var name tagName
	name.join("", branch)
	if scope != "" {
		name.join(".", scope)
	}
	hash := identityHash(purpose, branch, scope)
	return name.withSuffix("-" + purpose + "-" + hash[:hashedHashDigits])
}

// identityHash hashes fields so that no two lists of them look alike, in
// hexadecimal digits.
func identityHash(fields ...string) string {
	h := sha256.New()
	for _, field := range fields {
		h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(field))))
		h.Write([]byte(field))
	}
	return hex.EncodeToString(h.Sum(nil))
}

// utf8Text is the text as JSON, and so an annotation, can carry it.
func utf8Text(text string) string { return strings.ToValidUTF8(text, "\uFFFD") }

// tagName is the readable part of a tag in the making.
type tagName struct {
	joined   string
	replaced bool // something was lost that a hash must make up for
}

// join appends text after a separator, which is left out at the front.
func (n *tagName) join(separator, text string) {
	tag, exact := registry.TagText(text)
	if n.joined != "" {
		tag = separator + tag
	}
	n.joined += tag
	n.replaced = n.replaced || !exact || text == ""
}

func (n *tagName) exact() bool { return !n.replaced && registry.ValidTag(n.joined) }

// withSuffix is a valid tag that ends in the suffix, a dash and more.
func (n *tagName) withSuffix(suffix string) string {
	name := n.joined
	switch {
	case name == "":
		return suffix[1:]
	case name[0] == '.', name[0] == '-':
		name = "_" + name[1:]
	}
	if room := registry.MaxTagLength - len(suffix); len(name) > room {
		name = name[:room]
	}
	return name + suffix
}
