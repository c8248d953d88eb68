package engine

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	bkclient "github.com/moby/buildkit/client"
	"github.com/moby/buildkit/session/secrets"
	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"

	"github.com/docker-build-remote-cache/docker-build-remote-cache/stages"
)

// People are shown steps, failures and warnings as they wrote them, while the
// engine keeps calling them by what it was given.
func TestStepsAreShownAsWritten(t *testing.T) {
	t.Parallel()
	const prelude = "test ! -f /dev/x || . /dev/x;"
	edited, err := parsed(t, "FROM scratch\nRUN --mount=type=secret,id=theirs apt-get install x\n").Edited([]stages.Edit{
		{Line: 2, Mounts: []string{"type=secret,id=" + stages.ReservedPrefix + "a,env=A", "type=cache,id=" + stages.ReservedPrefix + "b,target=/b"}, Prelude: prelude},
	})
	if err != nil {
		t.Fatal(err)
	}
	name := "[1/1] " + strings.TrimSpace(strings.SplitN(string(edited.Source), "\n", 2)[1])
	started := time.Unix(1, 0)
	vertex := &bkclient.Vertex{Digest: digest.FromString("v"), Name: name, Started: &started, Completed: &started, Error: `process "/bin/sh -c ` + prelude + ` apt-get install x" failed`}
	warning := &bkclient.VertexWarning{Vertex: vertex.Digest, Level: 1, Short: []byte("warned"), SourceInfo: &pb.SourceInfo{Filename: "Dockerfile", Data: edited.Source}, Range: []*pb.Range{{Start: &pb.Position{Line: 2}, End: &pb.Position{Line: 2}}}}
	var out strings.Builder
	shown, err := newDisplay(Progress{Mode: "plain", Out: &out}, edited)
	if err != nil {
		t.Fatal(err)
	}
	shown.show(&bkclient.SolveStatus{Vertexes: []*bkclient.Vertex{vertex}, Warnings: []*bkclient.VertexWarning{warning}})
	shown.close()
	if got := out.String(); !strings.Contains(got, "[1/1] RUN --mount=type=secret,id=theirs apt-get install x\n") ||
		strings.Contains(got, prelude) || strings.Contains(got, "type=cache") || !strings.Contains(got, "/bin/sh -c apt-get install x") {
		t.Errorf("shown is\n%s", got)
	}
	if vertex.Name != name || string(warning.SourceInfo.Data) != string(edited.Source) {
		t.Error("what others go by was changed")
	}
}

func TestSecretsOfTheTool(t *testing.T) {
	t.Parallel()
	const known, unknown = stages.ReservedPrefix + "known", stages.ReservedPrefix + "unknown"
	store, err := secretStore(Options{Values: []SecretValue{{ID: known, Value: []byte("v")}}})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := store.GetSecret(t.Context(), known); err != nil || string(got) != "v" {
		t.Errorf("%q, %v", got, err)
	}
	for _, id := range []string{unknown, "theirs"} {
		if got, err := store.GetSecret(context.Background(), id); !errors.Is(err, secrets.ErrNotFound) {
			t.Errorf("%s: %q, %v", id, got, err)
		}
	}
	if _, err := secretStore(Options{Values: []SecretValue{{ID: known, Value: make([]byte, 1<<20)}}}); err == nil {
		t.Error("a value that no engine takes was accepted")
	}
}
