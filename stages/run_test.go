package stages_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

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
		{Exec: []string{"e", "f g"}, Mounts: []string{"$"}},
		{Script: "h\n  i\n", Shell: bash},
		{Script: "cat <<X >y && cat <<Z\n1\nX\n2\nZ", Shell: bash},
		{Script: "j", Mounts: []string{"b", "$C"}, Shell: []string{"/bin/sh", "-ec"}},
		{Script: "l"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}
