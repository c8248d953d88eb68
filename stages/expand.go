package stages

import (
	"cmp"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/containerd/platforms"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/shell"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
)

// maxWord bounds, in bytes, a word that is expanded and all values that are
// put into it, lest ARGs that repeat each other grow without limit.
const maxWord = 1 << 16

// variables are what FROM is expanded with: the predefined ARGs and those
// before the first FROM.
type variables struct {
	values   map[string]string
	platform ocispecs.Platform // the target platform
	lex      *shell.Lex
}

// newVariables gives the predefined ARGs (dockerfile2llb/platform.go).
func newVariables(opt Options, targetStage string, escape rune) (*variables, error) {
	target, err := platforms.Parse(cmp.Or(opt.Platform, opt.BuildPlatform, "linux/amd64"))
	if err != nil {
		return nil, fmt.Errorf("parse platform: %w", err)
	}
	target = platforms.Normalize(target)
	build, err := platforms.Parse(cmp.Or(opt.BuildPlatform, opt.Platform, "linux/amd64"))
	if err != nil {
		return nil, fmt.Errorf("parse build platform: %w", err)
	}
	v := &variables{platform: target, lex: shell.NewLex(escape), values: map[string]string{
		"BUILDPLATFORM":   platforms.Format(build),
		"BUILDOS":         build.OS,
		"BUILDOSVERSION":  build.OSVersion,
		"BUILDARCH":       build.Architecture,
		"BUILDVARIANT":    build.Variant,
		"TARGETPLATFORM":  platforms.FormatAll(target),
		"TARGETOS":        target.OS,
		"TARGETOSVERSION": target.OSVersion,
		"TARGETARCH":      target.Architecture,
		"TARGETVARIANT":   target.Variant,
		"TARGETSTAGE":     cmp.Or(targetStage, "default"),
	}}
	for name := range v.values {
		if given, ok := opt.Args[name]; ok {
			v.values[name] = given
		}
	}
	return v, nil
}

// declare adds the ARGs before the first FROM: the build argument if given,
// else the default, which may use the ARGs before it (convert.go,
// buildMetaArgs).
func (v *variables) declare(args []*instructions.ArgCommand, given map[string]string) error {
	for _, arg := range args {
		for _, pair := range arg.Args {
			if value, ok := given[pair.Key]; ok {
				v.values[pair.Key] = value
				continue
			}
			if pair.Value == nil {
				continue
			}
			value, err := v.expand(*pair.Value)
			if err != nil {
				return syntaxError(arg.Location()[0].Start.Line, err)
			}
			v.values[pair.Key] = value
		}
	}
	return nil
}

func (v *variables) expand(word string) (string, error) {
	// The lexer writes to stderr where it meets other text.
	if !utf8.ValidString(word) || strings.ContainsRune(word, 0) {
		return "", fmt.Errorf("%q is not text", oneLine(word, MaxText))
	}
	env := &bounded{used: len(word), get: func(name string) (string, bool) {
		value, set := v.values[name]
		return value, set
	}}
	var expanded string
	var err error
	if !env.exceeded() {
		expanded, _, err = v.lex.ProcessWord(word, env)
	}
	if env.exceeded() {
		return "", fmt.Errorf("%q expands to more than %d bytes", oneLine(word, MaxText), maxWord)
	}
	return expanded, err
}

// bounded is what a word is expanded with: values, until there are too many
// bytes of them.
type bounded struct {
	get  func(name string) (value string, set bool)
	used int
}

// Get implements shell.EnvGetter.
func (b *bounded) Get(name string) (string, bool) {
	value, set := b.get(name)
	if b.used += len(value); b.exceeded() {
		return "", set
	}
	return value, set
}

// Keys implements shell.EnvGetter; expanding a word does not ask for them.
func (b *bounded) Keys() []string { return nil }

func (b *bounded) exceeded() bool { return b.used > maxWord }
