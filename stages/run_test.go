package stages_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/docker-build-remote-cache/docker-build-remote-cache/stages"
)

func TestRun(t *testing.T) {
	t.Parallel()
	f, err := stages.Parse([]byte(`FROM scratch AS a
RUN --network=none b && \
  # told
  c "$D"
SHELL ["/bin/bash", "-c"]
RUN --mount=type=tmpfs,target=/t --mount=type=cache,mode=$M,target=$C ["e", "f g"]
RUN <<-EOF
	h
	  i
EOF
FROM a
RUN cat <<X >y && cat <<Z
1
X
2
Z
SHELL ["/bin/sh", "-ec"]
RUN --mount=type=bind,target=b --mount=type=cache,target=$C j
FROM a AS k
FROM scratch
RUN l
ENV m=n
`), stages.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var got []*stages.Run
	for _, s := range f.Stages {
		for _, i := range s.Instructions {
			if (i.Run != nil) != (i.Kind == "RUN") {
				t.Errorf("line %d: run %v", i.Lines.First, i.Run)
			}
			if i.Run != nil {
				got = append(got, i.Run)
			}
		}
	}
	bash := []string{"/bin/bash", "-c"}
	want := []*stages.Run{
		{Script: `b &&   c "$D"`, Network: "none"},
		{Exec: []string{"e", "f g"}, Mounts: []string{stages.UnknownPlace}},
		{Script: "h\n  i\n", Shell: bash},
		{Script: "cat <<X >y && cat <<Z\n1\nX\n2\nZ", Shell: bash},
		{Script: "j", Mounts: []string{"b", stages.UnknownPlace}, Shell: []string{"/bin/sh", "-ec"}},
		{Script: "l"},
	}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(stages.Run{})); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestRunScope(t *testing.T) {
	t.Parallel()
	f, err := stages.Parse([]byte(`ARG HOME_OF=/srv
FROM scratch AS a
ARG HOME_OF
ARG GIVEN=1
ENV A=1 B=$A C=${HOME_OF}/x D=$GIVEN E=$UNSET F='a b'
ENV B=$A
ARG A=2
USER app:$GIVEN
RUN --mount=type=cache,target=${C}/.npm/ --mount=type=secret,id=x,env=x --mount=target=rel,type=tmpfs one
FROM a
USER $WHO
RUN --mount=target=$WHO,type=tmpfs two
FROM scratch
RUN three
`), stages.Options{Args: map[string]string{"GIVEN": "7"}})
	if err != nil {
		t.Fatal(err)
	}
	type seen struct {
		User   string
		Mounts []string
		Env    map[string]string
	}
	var got []seen
	for _, s := range f.Stages {
		for _, i := range s.Instructions {
			if i.Run == nil {
				continue
			}
			one := seen{i.Run.User, i.Run.Mounts, map[string]string{}}
			for _, name := range []string{"A", "B", "C", "D", "E", "F", "GIVEN", "UNSET"} {
				value, set, known := i.Run.Getenv(name)
				switch {
				case known:
					one.Env[name] = value
				case set:
					one.Env[name] = "?"
				}
			}
			got = append(got, one)
		}
	}
	env := map[string]string{"A": "1", "B": "1", "C": "/srv/x", "D": "7", "E": "?", "F": "a b", "GIVEN": "7"}
	want := []seen{
		{"app:7", []string{"/srv/x/.npm", "rel"}, env},
		{stages.UnknownUser, []string{stages.UnknownPlace}, env},
		{"", nil, map[string]string{}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// TestRunScopeIsBounded knows nothing rather than something old.
func TestRunScopeIsBounded(t *testing.T) {
	t.Parallel()
	f, err := stages.Parse([]byte("FROM scratch\nENV A=1\n"+strings.Repeat("ENV B=$B$A\n", 2000)+"ENV A=2\nRUN x\n"), stages.Options{})
	if err != nil {
		t.Fatal(err)
	}
	in := f.Stages[0].Instructions
	if value, set, known := in[len(in)-1].Run.Getenv("A"); !set || known {
		t.Errorf("A is %q", value)
	}
}

func TestTakenAndStarts(t *testing.T) {
	t.Parallel()
	f, err := stages.Parse([]byte(`FROM scratch AS a
ENTRYPOINT ["b", "c"]
FROM a
SHELL ["/bin/bash", "-c"]
CMD d e
COPY --from=a /f g /h
RUN --mount=from=a,source=/i,target=/j k
`), stages.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"/f", "g", "/"}, f.Stages[0].Taken); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	got := []*stages.Run{f.Stages[0].Instructions[0].Starts, f.Stages[1].Instructions[1].Starts}
	want := []*stages.Run{{Exec: []string{"b", "c"}}, {Script: "d e", Shell: []string{"/bin/bash", "-c"}}}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(stages.Run{})); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}
