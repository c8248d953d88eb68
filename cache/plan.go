package cache

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/docker-build-remote-cache/docker-build-remote-cache/registry"
	"github.com/docker-build-remote-cache/docker-build-remote-cache/stages"
)

// SavePolicy says after which builds caches are saved.
type SavePolicy string

// The save policies.
const (
	SaveAlways    SavePolicy = "always"
	SaveOnSuccess SavePolicy = "success"
	SaveNever     SavePolicy = "never"
)

// UnprefixedPolicy says which branches write the unprefixed tags, the last
// that every branch falls back to.
type UnprefixedPolicy string

// The policies for unprefixed tags.
const (
	UnprefixedAlways        UnprefixedPolicy = "always"
	UnprefixedDefaultBranch UnprefixedPolicy = "default-branch"
	UnprefixedNever         UnprefixedPolicy = "never"
)

// Request is what a plan is made from.
type Request struct {
	Image registry.Image
	// Names are further names of the image, beside Image.
	Names      []registry.Image
	Push       bool
	Repository registry.Repository // of the caches

	File *stages.File
	// Stages are the stages to build, ascending; Target is the one that is
	// the image.
	Stages []int
	Target int

	Branch, BaseBranch, DefaultBranch Branch
	// Scope separates the jobs of a matrix, which must not overwrite each
	// other.
	Scope      string
	Save       SavePolicy
	Unprefixed UnprefixedPolicy
	Origin     Origin
	// ReadOnly, if not "", is why nothing may be written. What Origin says
	// goes before it.
	ReadOnly string
	// Given are the references of --cache-from.
	Given      []registry.Image
	Conditions Conditions
	Volatile   []string // names of --volatile-arg
	// Mounts are the cache mounts to keep.
	Mounts MountSelection
}

// Branch is a branch's name, "" when unknown, and where it was found.
type Branch struct{ Name, From string }

// Plan says which slots are read and written for each stage. It is plain
// data: making one asks neither a registry nor an engine.
type Plan struct {
	Image      registry.Image
	Names      []registry.Image
	Push       bool
	Repository registry.Repository
	Branch     Branch
	Base       Branch
	Default    Branch
	Origin     Origin
	// ReadOnly, if not "", is why nothing may be written to Repository: no
	// cache, and nothing that helps to import one. Push stands for itself.
	ReadOnly string
	Scope    string
	Save     SavePolicy
	Target   string
	// CacheInImages says that the engine keeps and reads caches inside images
	// alone. It is known once the engine has been asked.
	CacheInImages bool
	Stages        []StagePlan
	// Mounts are the cache mounts that are kept, in the order of the file.
	Mounts []MountPlan
	// Owners are, for each branch that is read, who exports its caches: what
	// no stage's tag refers to yet is found with them.
	Owners []OwnerLevel
	// Given are further caches to read, whoever wrote them.
	Given []registry.Image
	// Volatile are arguments that are in no cache key.
	Volatile []string
	// Conditions are compared with those of the caches that are found.
	Conditions Conditions
	// Skips are the things that are not done, each with its reason.
	Skips []Skip
}

// StagePlan is the plan for one stage.
type StagePlan struct {
	Index  int    // in the Dockerfile
	Name   string // as --target takes it
	Lines  stages.Range
	Needs  []string
	Reads  []Slot // the most specific first
	Writes []Slot
}

// OwnerLevel is an owner of caches and the level it is read at.
type OwnerLevel struct {
	Level Level
	Owner
}

// Skip is something that is not done and why.
type Skip struct{ What, Reason string }

// NewPlan applies the rules of the tag table: every stage is looked for under
// the branch, of a pull request under its base, under the default branch and
// without a prefix, and is saved under the branch and without a prefix.
func NewPlan(r Request) Plan {
	p := Plan{
		Image: r.Image, Names: r.Names, Push: r.Push, Repository: r.Repository, Save: r.Save,
		Branch: r.Branch, Base: r.BaseBranch, Default: r.DefaultBranch, Scope: r.Scope,
		Origin: r.Origin, ReadOnly: r.readOnly(),
		Target: r.File.Stages[r.Target].Target(), Given: r.Given, Conditions: r.Conditions, Volatile: r.Volatile,
	}
	write := p.writes(r)
	levels := r.levels()
	for _, level := range levels {
		if level.name != LevelUnprefixed {
			p.Owners = append(p.Owners, OwnerLevel{level.name, Owner{Branch: level.branch, Scope: r.Scope}})
		}
	}
	for _, index := range r.Stages {
		stage := r.File.Stages[index]
		plan := StagePlan{Index: index, Name: stage.Target(), Lines: stage.Lines}
		for _, need := range stage.Needs {
			plan.Needs = append(plan.Needs, r.File.Stages[need].Target())
		}
		if !slices.ContainsFunc(stage.Instructions, stages.Instruction.Step) {
			p.skip("cache of stage "+plan.Name, "it has no steps of its own")
			p.Stages = append(p.Stages, plan)
			continue
		}
		for _, level := range levels {
			slot := Slot{Level: level.name, Branch: level.branch, Stage: plan.Name, Final: index == len(r.File.Stages)-1, Scope: r.Scope}
			plan.Reads = append(plan.Reads, slot)
			if write[level.name] {
				plan.Writes = append(plan.Writes, slot)
			}
		}
		p.Stages = append(p.Stages, plan)
	}
	p.planMounts(r, levels, write)
	if !r.Push {
		p.skip("push of "+r.Image.String(), "--push=false")
	}
	if r.Branch.Name == "" || p.Writes() && p.Owner().Branch == "" {
		// What earlier builds without a branch of their own left behind: of
		// one that failed it is found only so.
		p.Owners = append(p.Owners, OwnerLevel{LevelUnprefixed, p.Owner()})
	}
	p.withholdPush()
	return p
}

type level struct {
	name   Level
	branch string
}

// levels are the places to look, the most specific first, each branch once.
func (r Request) levels() []level {
	var levels []level
	add := func(name Level, branch string) {
		if branch != "" && !slices.ContainsFunc(levels, func(l level) bool { return l.branch == branch }) {
			levels = append(levels, level{name, branch})
		}
	}
	add(LevelBranch, r.Branch.Name)
	add(LevelBase, r.BaseBranch.Name)
	add(LevelDefault, r.DefaultBranch.Name)
	return append(levels, level{LevelUnprefixed, ""})
}

// Writes tells whether anything is to be saved.
func (p Plan) Writes() bool {
	return slices.ContainsFunc(p.Stages, func(s StagePlan) bool { return len(s.Writes) > 0 })
}

// Tags are the tags at which a slot may be kept, in the order to try. The
// plain one is left out where this very run names an image so: that stays the
// plain image.
func (p Plan) Tags(s Slot) []string {
	plain, hashed := s.Tags()
	for _, image := range append([]registry.Image{p.Image}, p.Names...) {
		if image == p.Repository.Tagged(plain) {
			return []string{hashed}
		}
	}
	if plain == hashed {
		return []string{plain}
	}
	return []string{plain, hashed}
}

// printOwners tells of the caches that belong to no single stage.
func (p Plan) printOwners(w io.Writer) {
	if len(p.Owners) == 0 {
		return
	}
	fmt.Fprintln(w, "\nwhole builds")
	var read []string
	for _, owner := range p.Owners {
		read = append(read, fmt.Sprintf("%s (%s)", owner.CacheExportTag(), owner.Level))
	}
	fmt.Fprintf(w, "  read   %s, and those of other scopes\n", strings.Join(read, ", "))
	if p.Writes() && p.Save != SaveNever {
		fmt.Fprintf(w, "  write  %s\n", p.Owner().CacheExportTag())
	}
}

// Fprint writes the plan for people.
func (p Plan) Fprint(out io.Writer) error {
	w := &strings.Builder{}
	pushed := ", pushed when the build succeeds"
	switch {
	case !p.Push:
		pushed = ", not pushed"
	case !p.Origin.Trust.own():
		pushed += " and its credentials allow it"
	}
	fmt.Fprintf(w, "image           %s%s\n", p.Image, pushed)
	for _, name := range p.Names {
		fmt.Fprintf(w, "                %s\n", name)
	}
	fmt.Fprintf(w, "target          %s\n", p.Target)
	fmt.Fprintf(w, "caches in       %s\n", p.Repository)
	printBranch(w, "branch", p.Branch)
	if p.Base.Name != "" {
		printBranch(w, "base branch", p.Base)
	}
	printBranch(w, "default branch", p.Default)
	if p.Origin.Reason != "" {
		fmt.Fprintf(w, "trust           %s (%s)\n", p.Origin.Trust, p.Origin.Reason)
	}
	if p.Scope != "" {
		fmt.Fprintf(w, "scope           %s\n", p.Scope)
	}
	for _, ref := range p.Given {
		fmt.Fprintf(w, "cache from      %s (--cache-from)\n", ref)
	}
	for _, name := range p.Volatile {
		fmt.Fprintf(w, "volatile        %s, a secret of the RUN steps that see it\n", name)
	}
	for _, stage := range p.Stages {
		fmt.Fprintf(w, "\nstage %s (lines %d-%d", stage.Name, stage.Lines.First, stage.Lines.Last)
		if len(stage.Needs) > 0 {
			fmt.Fprintf(w, ", needs %s", strings.Join(stage.Needs, ", "))
		}
		fmt.Fprintln(w, ")")
		p.printSlots(w, "read ", stage.Reads)
		p.printSlots(w, "write", stage.Writes)
	}
	p.printMounts(w)
	p.printOwners(w)
	if len(p.Skips) > 0 {
		fmt.Fprintln(w)
	}
	for _, skip := range p.Skips {
		fmt.Fprintf(w, "skip %s: %s\n", skip.What, skip.Reason)
	}
	_, err := io.WriteString(out, w.String())
	return err
}

func printBranch(w io.Writer, label string, b Branch) {
	name := b.Name
	if name == "" {
		name = "unknown"
	}
	fmt.Fprintf(w, "%-15s %s (%s)\n", label, name, b.From)
}

// printSlots prints the tags of slots, without the hashed ones that serve
// where the plain one is taken.
func (p Plan) printSlots(w io.Writer, verb string, slots []Slot) {
	if len(slots) == 0 {
		return
	}
	var tags []string
	for _, slot := range slots {
		tags = append(tags, fmt.Sprintf("%s (%s)", p.Tags(slot)[0], slot.Level))
	}
	fmt.Fprintf(w, "  %s  %s\n", verb, strings.Join(tags, ", "))
}

// closure are stages, by index, and all that they need.
func (p Plan) closure(stages []int) []int {
	reached := slices.Clone(stages)
	for _, stage := range slices.Backward(p.Stages) { // needs are always earlier
		if !slices.Contains(reached, stage.Index) {
			continue
		}
		for _, other := range p.Stages {
			if slices.Contains(stage.Needs, other.Name) {
				reached = append(reached, other.Index)
			}
		}
	}
	return reached
}

// stage is the plan of the stage with an index in the Dockerfile.
func (p Plan) stage(index int) StagePlan {
	for _, stage := range p.Stages {
		if stage.Index == index {
			return stage
		}
	}
	return StagePlan{Index: index}
}
