package engine

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/docker-build-remote-cache/docker-build-remote-cache/stages"
	gatewaypb "github.com/moby/buildkit/frontend/gateway/pb"
	"github.com/moby/buildkit/solver/errdefs"
	"github.com/moby/buildkit/solver/pb"
)

// The texts are those of BuildKit 0.34.2; there are no types to go by.
func TestCacheFault(t *testing.T) {
	t.Parallel()
	const blob = "sha256:2e1129cef95d1fac8ab52f54983ced79f09ecb6a7a6bbba1df01e8d9a938b31c"
	for text, want := range map[string]bool{
		"failed to compute cache key: failed to get remote: content " + blob + ": not found":                   true,
		"failed to compute cache key: " + blob + ": not found":                                                 true,
		"failed to copy: httpReadSeeker: failed open: unexpected status from GET request to http://h/v2/: 500": true,
		`failed to compute cache key: failed to calculate checksum of ref x::y: "/nope": not found`:            false,
		`dockerfile parse error on line 3: unknown instruction: RUM`:                                           false,
		`process "/bin/sh -c false" did not complete successfully: exit code: 1`:                               false,
	} {
		if got := (Outcome{Err: errors.New(text)}).CacheFault(); got != want {
			t.Errorf("%s: got %v", text, got)
		}
	}
	exit := fmt.Errorf("solve: %w", &gatewaypb.ExitError{ExitCode: 127, Err: errors.New("sh: make: not found")})
	if (Outcome{Err: exit}).CacheFault() {
		t.Error("a step that exits is taken for a fault of the cache")
	}
	if (Outcome{}).CacheFault() {
		t.Error("a build without an error is taken for a fault of the cache")
	}
}

func TestDeliveryDenied(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		"failed to push h/x:v1: unexpected status from HEAD request to http://h/v2/: 401 Unauthorized": true,
		"push access denied, repository does not exist or may require authorization":                   true,
		"denied: requested access to the resource is denied":                                           true,
		"failed to solve: failed to push ghcr.io/acme/app:1: denied":                                   true,
		"push ghcr.io/acme/app:1: no basic auth credentials":                                           true,
		"open out: permission denied":                                                                  false,
		"failed to do request: dial tcp 127.0.0.1:1: connect: connection refused":                      false,
		"unexpected status: 500 Internal Server Error":                                                 false,
		"failed to push sha256:4014a03: connection reset":                                              false,
	} {
		if got := (&DeliveryError{errors.New(text)}).Denied(); got != want {
			t.Errorf("%s: got %v", text, got)
		}
	}
}

// What was appended for the engine is not the user's and not shown.
func TestExcerptOfTheUsersDockerfile(t *testing.T) {
	t.Parallel()
	const dockerfile = "FROM scratch\nRUN false\n"
	source := &errdefs.Source{
		Info:   &pb.SourceInfo{Filename: "Dockerfile", Data: []byte(dockerfile + "#\nFROM scratch AS appended\n")},
		Ranges: []*pb.Range{{Start: &pb.Position{Line: 2}, End: &pb.Position{Line: 2}}},
	}
	var out strings.Builder
	Outcome{Err: errdefs.WithSource(errors.New("exit code: 1"), source)}.Excerpt(&out, &stages.File{Source: []byte(dockerfile)})
	if got := out.String(); !strings.Contains(got, "2 | >>> RUN false") || strings.Contains(got, "appended") {
		t.Errorf("got %s", got)
	}
}
