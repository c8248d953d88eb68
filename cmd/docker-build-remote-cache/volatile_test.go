package main

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/docker-build-remote-cache/docker-build-remote-cache/stages"
)

func TestVolatileArguments(t *testing.T) {
	t.Parallel()
	vars := map[string]string{"FROM_ENV": "e", "EMPTY": "", ownPrefix + "VOLATILE_ARG": "LISTED=a, b=c\nFROM_ENV UNSET"}
	for args, want := range map[string][]stages.VolatileArg{
		"app --volatile-arg A=b=c":                                {{Name: "A", Value: "b=c", Given: true}},
		"app --volatile-arg A=":                                   {{Name: "A", Given: true}},
		"app --volatile-arg=FROM_ENV --volatile-arg EMPTY":        {{Name: "FROM_ENV", Value: "e", Given: true}, {Name: "EMPTY", Given: true}},
		"app --volatile-arg UNSET":                                {{Name: "UNSET"}},
		"app --volatile-arg A=1 --volatile-arg A=2":               {{Name: "A", Value: "2", Given: true}},
		"app --build-arg FROM_ENV=arg --volatile-arg FROM_ENV":    {{Name: "FROM_ENV", Value: "arg", Given: true}},
		"app --volatile-arg FROM_ENV=own --build-arg FROM_ENV=no": {{Name: "FROM_ENV", Value: "own", Given: true}},
		"app": {{Name: "LISTED", Value: "a, b=c", Given: true}, {Name: "FROM_ENV", Value: "e", Given: true}, {Name: "UNSET"}},
	} {
		o, err := parseCommandLine(strings.Fields(args), environment(vars))
		if err != nil {
			t.Errorf("%s: %v", args, err)
			continue
		}
		if diff := cmp.Diff(want, o.volatile); diff != "" {
			t.Errorf("%s (-want +got)\n%s", args, diff)
		}
		if len(o.build.BuildArgs) > 0 {
			t.Errorf("%s: build arguments %v", args, o.build.BuildArgs)
		}
	}
}

// No file holds the value of a volatile argument or of a secret: neither from
// the command line nor from a variable.
func TestStateHoldsNoSecretValue(t *testing.T) {
	t.Parallel()
	vars := map[string]string{"E": "s3cr3t-e", "B": "s3cr3t-b2", ownPrefix + "VOLATILE_ARG": "V=s3cr3t-v", "S": "s3cr3t-s", "KEPT": "kept"}
	for _, line := range [][]string{
		{"app", "--volatile-arg", "A=s3cr3t-a", "--volatile-arg=E", "--build-arg", "B=s3cr3t-b", "--volatile-arg", "B", "--build-arg=KEPT"},
		{"app", "--volatile-arg=A=s3cr3t-a", "--build-arg=A=s3cr3t-a", "--build-arg", "KEPT"},
		{"app", "--build-arg", "KEPT"},
		{"app", "--secret", "id=S", "--secret=id=other,env=S", "--build-arg", "KEPT"},
	} {
		s, read := surroundings{args: line, lookupEnv: environment(vars)}.recordEnvironment()
		o, err := parseCommandLine(s.args, s.lookupEnv)
		if err != nil {
			t.Fatal(err)
		}
		forgetValues(read, o.volatile)
		forgetSecrets(read, o.build.Secrets)
		args := withoutValues(s.args, o.volatile)
		raw, err := json.Marshal(state{Schema: stateSchema, Arguments: args, Environment: read})
		if err != nil || strings.Contains(string(raw), "s3cr3t") || !strings.Contains(string(raw), "kept") {
			t.Errorf("%v: %s", err, raw)
		}
		// Another process, without the variables, asks for the same build.
		again, err := parseCommandLine(args, surroundings{lookupEnv: environment(nil)}.replayEnvironment(read).lookupEnv)
		if err != nil {
			t.Fatal(err)
		}
		names := func(o *options) (names []string) {
			for _, arg := range o.volatile {
				names = append(names, arg.Name)
			}
			return names
		}
		if !slices.Equal(names(o), names(again)) || !cmp.Equal(o.build.BuildArgs, again.build.BuildArgs) {
			t.Errorf("%v and %v, then %v and %v", names(o), o.build.BuildArgs, names(again), again.build.BuildArgs)
		}
	}
}
