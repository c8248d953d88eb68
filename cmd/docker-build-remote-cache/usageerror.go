package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/moby/buildkit/util/suggest"
	"github.com/spf13/pflag"
)

// usageError is a command line, or a variable standing in for one, that cannot
// be obeyed. Neither text holds the value of an option that may be a secret.
type usageError struct {
	message string // what is wrong, naming the option
	hint    string // what to write instead, "" when the message says it
}

func (e *usageError) Error() string { return e.message }

func usagef(hint, format string, args ...any) *usageError {
	return &usageError{message: fmt.Sprintf(format, args...), hint: hint}
}

const helpHint = program + " --help lists the options"

// parseError puts an error of pflag into the terms of this command, naming the
// nearest option for one that is not known.
func parseError(err error, known []option) error {
	var (
		unknown *pflag.NotExistError
		missing *pflag.ValueRequiredError
		invalid *pflag.InvalidValueError
		syntax  *pflag.InvalidSyntaxError
	)
	switch {
	case errors.As(err, &unknown):
		return unknownOption(unknown, known)
	case errors.As(err, &missing):
		return usagef(formOf(known, missing.GetFlag().Name), "--%s needs a value", missing.GetFlag().Name)
	case errors.As(err, &invalid):
		name := invalid.GetFlag().Name
		return valueError("--"+name, formOf(known, name), invalid.Unwrap())
	case errors.As(err, &syntax):
		return usagef(helpHint, "%q is not an option", syntax.GetSpecifiedFlag())
	default:
		return usagef(helpHint, "parse the command line: %v", err)
	}
}

// valueError says that source, an option or a variable, has a bad value. The
// value itself is left out: it may hold a credential.
func valueError(source, form string, cause error) error {
	var unsupported *usageError
	if errors.As(cause, &unsupported) {
		return unsupported
	}
	return usagef(form, "invalid value for %s: %v", source, cause)
}

func unknownOption(unknown *pflag.NotExistError, known []option) error {
	written, long := "--"+unknown.GetSpecifiedName(), unknown.GetSpecifiedName()
	if group := unknown.GetSpecifiedShortnames(); group != "" {
		// -push is read as the short options -p, -u, -s and -h.
		written = "-" + unknown.GetSpecifiedName()
		long, _, _ = strings.Cut(group, "=")
	}
	if nearest, ok := nearestOption(long, known); ok {
		if strings.HasPrefix(written, "--") {
			return usagef(helpHint, "unknown option %s; did you mean --%s?", written, nearest)
		}
		return usagef(helpHint, "unknown option -%s; did you mean --%s?", long, nearest)
	}
	return usagef(helpHint, "unknown option %s", written)
}

func nearestOption(name string, known []option) (string, bool) {
	if len(name) < 2 { // every short option is near to every other
		return "", false
	}
	var names []string
	for _, o := range known {
		if o.name == name {
			return name, true
		}
		names = append(names, o.name)
	}
	return suggest.Search(name, names, true)
}

// formOf says how the value of an option is written.
func formOf(known []option, name string) string {
	for _, o := range known {
		if o.name == name && o.form != "" {
			return "--" + name + " takes " + o.form
		}
	}
	return ""
}
