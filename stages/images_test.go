package stages

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestWithImages(t *testing.T) {
	const source = `# escape=\
ARG TAG=1
FROM --platform=linux/amd64 \
  base:$TAG AS deps
RUN a \

  && b

# about the next
FROM deps
RUN <<END
FROM evil
END
from golang as Tools
COPY --from=1 /a /b
FROM deps
COPY --from=tools /b /c
`
	f, err := Parse([]byte(source), Options{})
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		stage  int
		images map[int]string
		want   string
	}{
		"none": {3, nil, source},
		"all before": {3, map[int]string{0: "sha256:0", 1: "scratch", 2: "sha256:2", 3: "ignored"}, `# escape=\
ARG TAG=1
FROM sha256:0 AS deps





# about the next
FROM scratch



FROM sha256:2 AS tools

FROM deps
COPY --from=tools /b /c
`},
		"cut": {1, map[int]string{0: "sha256:0", 2: "ignored"}, `# escape=\
ARG TAG=1
FROM sha256:0 AS deps





# about the next
FROM deps
RUN <<END
FROM evil
END
`},
	} {
		t.Run(name, func(t *testing.T) {
			got := f.WithImages(test.stage, test.images)
			if diff := cmp.Diff(test.want, string(got)); diff != "" {
				t.Error(diff)
			}
			again, err := Parse(got, Options{})
			if err != nil {
				t.Fatal(err)
			}
			if len(again.Stages) != test.stage+1 {
				t.Errorf("%d stages, want %d", len(again.Stages), test.stage+1)
			}
			for i, s := range again.Stages {
				if s.Name != f.Stages[i].Name || s.Head.First != f.Stages[i].Head.First {
					t.Errorf("stage %d is %q at line %d, want %q at line %d", i, s.Name, s.Head.First, f.Stages[i].Name, f.Stages[i].Head.First)
				}
			}
		})
	}
}
