package dialect

import (
	"fmt"
	"slices"
	"strings"
)

// obeyed is a command as a platform understands it.
type obeyed struct {
	Name       string
	Properties map[string]string
	Value      string
}

// lines splits a log as .NET's StreamReader.ReadLine does.
func lines(log string) []string {
	return strings.FieldsFunc(log, func(r rune) bool { return r == '\n' || r == '\r' })
}

// githubObeys reads a log as actions/runner does (ActionCommand.TryParseV2 of
// src/Runner.Common). A line in its older form, ##[name]value, is an error.
func githubObeys(log string) ([]obeyed, error) {
	var all []obeyed
	for _, line := range lines(log) {
		if strings.Contains(line, "##[") {
			return nil, fmt.Errorf("obeys %q", line)
		}
		rest, ok := strings.CutPrefix(strings.TrimLeft(line, " \t\v\f\u0085\u00a0"), "::")
		if !ok {
			continue
		}
		command, value, ok := strings.Cut(rest, "::")
		if !ok {
			continue
		}
		name, properties, _ := strings.Cut(command, " ")
		c := obeyed{Name: name, Value: unescape(value, githubEscapes[:3]), Properties: map[string]string{}}
		for property := range strings.SplitSeq(properties, ",") {
			if key, value, ok := strings.Cut(strings.TrimSpace(property), "="); ok {
				c.Properties[key] = unescape(value, githubEscapes)
			}
		}
		all = append(all, c)
	}
	return all, nil
}

// azureObeys reads a log as azure-pipelines-agent does (Command.TryParse of
// src/Agent.Sdk). ##[group] and the like, which only format, are listed too.
func azureObeys(log string) ([]obeyed, error) {
	var all []obeyed
	for _, line := range lines(log) {
		if i := strings.Index(line, "##["); i >= 0 {
			name, value, _ := strings.Cut(line[i+3:], "]")
			all = append(all, obeyed{Name: name, Value: value})
			continue
		}
		i := strings.Index(line, "##vso[")
		if i < 0 {
			continue
		}
		command, value, ok := strings.Cut(line[i+6:], "]")
		if !ok {
			return nil, fmt.Errorf("%q has no end", line)
		}
		name, properties, _ := strings.Cut(command, " ")
		c := obeyed{Name: name, Value: unescape(value, azureEscapes[:3]), Properties: map[string]string{}}
		for property := range strings.SplitSeq(properties, ";") {
			if key, value, ok := strings.Cut(property, "="); ok {
				c.Properties[key] = unescape(value, azureEscapes)
			}
		}
		all = append(all, c)
	}
	return all, nil
}

// The escapes, first those of values; that of the percent sign is undone last.
var (
	githubEscapes = [][2]string{{"%0D", "\r"}, {"%0A", "\n"}, {"%25", "%"}, {"%3A", ":"}, {"%2C", ","}}
	azureEscapes  = [][2]string{{"%0D", "\r"}, {"%0A", "\n"}, {"%AZP25", "%"}, {"%3B", ";"}, {"%5D", "]"}}
)

func unescape(text string, escapes [][2]string) string {
	percent := slices.IndexFunc(escapes, func(e [2]string) bool { return e[1] == "%" })
	for i, escape := range escapes {
		if i != percent {
			text = strings.ReplaceAll(text, escape[0], escape[1])
		}
	}
	return strings.ReplaceAll(text, escapes[percent][0], "%")
}

// outputs reads a file of GITHUB_OUTPUT as actions/runner does
// (FileCommandManager.cs).
func outputs(file string) (map[string]string, error) {
	set := map[string]string{}
	rest := file
	for rest != "" {
		var line string
		line, rest, _ = strings.Cut(rest, "\n")
		name, delimiter, ok := strings.Cut(line, "<<")
		switch {
		case line == "":
			continue
		case !ok:
			name, value, ok := strings.Cut(line, "=")
			if !ok {
				return nil, fmt.Errorf("invalid format %q", line)
			}
			set[name] = value
			continue
		}
		var value []string
		for {
			if rest == "" {
				return nil, fmt.Errorf("matching delimiter not found %q", delimiter)
			}
			line, rest, _ = strings.Cut(rest, "\n")
			if line == delimiter {
				break
			}
			value = append(value, line)
		}
		set[name] = strings.Join(value, "\n")
	}
	return set, nil
}
