package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/spf13/pflag"
	"github.com/tonistiigi/go-csvvalue"
)

const program = "docker-build-remote-cache"

// ownPrefix begins the variable of every option of our own.
const ownPrefix = "DOCKER_BUILD_REMOTE_CACHE_"

// option is one option of the command line. Its flag, its variable and its
// lines in the help text all come from here.
type option struct {
	name  string
	short string // one letter, "" for none
	value string // placeholder of its value in the help text, "" for a switch
	help  string
	form  string // how a value is written, shown when one is wrong
	env   string // variable that is read when the option is not given, "" for none
	set   func(string) error
	// setList reads the variable of an option that can be given several
	// times; nil is set.
	setList func(string) error
	hidden  bool // left out of the help text
}

// own makes an option of this tool, which has a variable too.
func own(o option) option {
	o.env = ownPrefix + strings.ToUpper(strings.ReplaceAll(o.name, "-", "_"))
	return o
}

// flagSet defines the options as flags, in their order.
func flagSet(options []option) *pflag.FlagSet {
	flags := pflag.NewFlagSet(program, pflag.ContinueOnError)
	flags.SortFlags = false
	flags.Usage = func() {}
	for _, o := range options {
		flag := flags.VarPF(flagValue(o), o.name, o.short, o.help)
		flag.Hidden = o.hidden
		if o.value == "" {
			flag.NoOptDefVal = "true"
		}
	}
	return flags
}

// flagValue lets an option be the value of a flag.
type flagValue option

func (v flagValue) Set(s string) error { return v.set(s) }

func (v flagValue) String() string { return "" }

func (v flagValue) Type() string {
	if v.value == "" {
		return "bool"
	}
	return v.value
}

// The functions below make an option's set function.

func text(into *string) func(string) error {
	return func(s string) error {
		*into = s
		return nil
	}
}

func toggle(into *bool) func(string) error {
	return func(s string) error {
		on, err := strconv.ParseBool(s)
		if err != nil {
			return fmt.Errorf("%q is neither true nor false", s)
		}
		*into = on
		return nil
	}
}

func integer(into *int64) func(string) error {
	return func(s string) error {
		n, err := strconv.ParseInt(s, 0, 64)
		if err != nil {
			return fmt.Errorf("%q is not a whole number", s)
		}
		*into = n
		return nil
	}
}

func duration(into *time.Duration) func(string) error {
	return func(s string) error {
		d, err := time.ParseDuration(s)
		if err != nil || d < 0 {
			return fmt.Errorf("%q is not a duration", s)
		}
		*into = d
		return nil
	}
}

func choice[T ~string](into *T, allowed ...T) func(string) error {
	return func(s string) error {
		if !slices.Contains(allowed, T(s)) {
			return fmt.Errorf("%q is not %s", s, orList(allowed))
		}
		*into = T(s)
		return nil
	}
}

// parsed hands each value to parse, and what that makes of it to keep.
func parsed[T any](parse func(string) (T, error), keep func(T)) func(string) error {
	return func(s string) error {
		v, err := parse(s)
		if err != nil {
			return err
		}
		keep(v)
		return nil
	}
}

func appendTo[T any](into *[]T) func(T) {
	return func(v T) { *into = append(*into, v) }
}

// verbatim is a parser that takes every value as it is.
func verbatim(s string) (string, error) { return s, nil }

// skipEmpty lets an empty value add nothing, as buildx does for the options
// that CI files fill from a variable: --cache-from "$CACHE".
func skipEmpty(set func(string) error) func(string) error {
	return func(s string) error {
		if s == "" {
			return nil
		}
		return set(s)
	}
}

// perField takes a value as comma-separated values, in CSV quoting.
func perField(set func(string) error) func(string) error {
	return func(s string) error {
		fields, err := csvvalue.Fields(s, nil)
		if err != nil {
			return err
		}
		for _, field := range fields {
			if err := set(field); err != nil {
				return err
			}
		}
		return nil
	}
}

// perWord takes a value as words between spaces, newlines and commas, of which
// none has any.
func perWord(set func(string) error) func(string) error {
	return func(s string) error {
		for _, word := range strings.FieldsFunc(s, func(r rune) bool { return r == ',' || unicode.IsSpace(r) }) {
			if err := set(word); err != nil {
				return err
			}
		}
		return nil
	}
}

// orList is "a, b or c".
func orList[T ~string](words []T) string {
	var b strings.Builder
	for i, word := range words {
		switch {
		case i > 0 && i == len(words)-1:
			b.WriteString(" or ")
		case i > 0:
			b.WriteString(", ")
		}
		b.WriteString(string(word))
	}
	return b.String()
}
