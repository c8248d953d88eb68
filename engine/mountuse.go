package engine

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"

	"github.com/docker-build-remote-cache/docker-build-remote-cache/stages"
	cacheimporttypes "github.com/moby/buildkit/cache/remotecache/v1/types"
	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"
)

// MountRequest says what is to be done about cache mounts, which are known by
// their stages.CacheMount.Key.
type MountRequest struct {
	Helper Helper
	// Restorable are the mounts that Restore can fill.
	Restorable []string
	// Restore fills a mount through reach. It is called at most once for each,
	// before the first step that uses the mount begins, unless that is
	// expected to be a hit. Its errors are its own: the build goes on.
	Restore func(ctx context.Context, key string, reach func(context.Context, MountHandler) error)
	// Records are those of the cache that the build imports; by them it is
	// told which steps are hits.
	Records []cacheimporttypes.CacheRecord
}

func (r MountRequest) restorable() map[string]bool {
	set := map[string]bool{}
	for _, key := range r.Restorable {
		set[key] = true
	}
	return set
}

// Mounter is a Build that can reach the cache mounts of its steps.
type Mounter interface {
	// MountsTouched are the mounts of steps that have run, or begun to.
	MountsTouched() []string
	// ReachMount runs the helper in a mount that a step of the Dockerfile uses
	// and has handler speak with it.
	ReachMount(ctx context.Context, key string, handler MountHandler) error
}

// errNoMount says that no step of the definition has such a mount: its options
// depend on what is not known before the build.
var errNoMount = errors.New("no step of the build has this mount")

// mountUse is one cache mount of one vertex.
type mountUse struct {
	key    string
	vertex digest.Digest
	mount  *pb.Mount
}

// mountUses finds the cache mounts of a definition's steps: those which the
// Dockerfile is known to give them.
func mountUses(g *graph, file *stages.File) []mountUse {
	var uses []mountUse
	for _, vertex := range g.order {
		exec := g.ops[vertex].GetExec()
		if exec == nil {
			continue
		}
		taken := map[*pb.Mount]bool{}
		for _, line := range g.lines(vertex, dockerfileName) {
			_, in, ok := instructionAt(file, line)
			if !ok {
				continue
			}
			for _, wanted := range in.CacheMounts {
				for _, mount := range exec.Mounts {
					if !taken[mount] && isMount(mount, wanted) {
						taken[mount] = true
						uses = append(uses, mountUse{wanted.Key(), vertex, mount})
						break
					}
				}
			}
		}
	}
	return uses
}

// isMount tells whether the frontend made m of a mount of the Dockerfile: the
// id is behind a namespace, the target may be joined with WORKDIR
// (dispatchRunMounts in convert_runmount.go).
func isMount(m *pb.Mount, of stages.CacheMount) bool {
	if m.MountType != pb.MountType_CACHE || m.CacheOpt == nil || !strings.HasSuffix(m.CacheOpt.ID, "/"+of.ID) {
		return false
	}
	target, dest := path.Clean(of.Target), path.Clean(m.Dest)
	return dest == target || !path.IsAbs(target) && strings.HasSuffix(dest, "/"+target)
}

// touched tells whether a vertex has used its mounts.
func (t *tracker) touched(g *graph, vertex digest.Digest, ended bool) bool {
	status, _ := t.status(g, vertex, ended)
	return status == Ran || status == Failed || status == Canceled || status == Pending && t.running(vertex)
}

// MountsTouched implements Mounter.
func (b *solveBuild) MountsTouched() []string {
	select {
	case <-b.planned:
	default:
		return nil
	}
	var keys []string
	seen := map[string]bool{}
	for _, g := range b.graphs {
		for _, use := range g.mounts {
			if !seen[use.key] && b.tracker.touched(g.graph, use.vertex, b.ended()) {
				seen[use.key] = true
				keys = append(keys, use.key)
			}
		}
	}
	return keys
}

// ReachMount implements Mounter.
func (b *solveBuild) ReachMount(ctx context.Context, key string, handler MountHandler) error {
	select {
	case <-b.planned:
	default:
		return errNoMount
	}
	for _, g := range b.graphs {
		for _, use := range g.mounts {
			if use.key != key {
				continue
			}
			if b.resumed && g.graph.needsSteps(use) {
				return fmt.Errorf("%w: what the mount begins with", ErrLost)
			}
			return b.engine.reach(ctx, b.sender, g.graph, use, b.request.Mounts.Helper, handler)
		}
	}
	return errNoMount
}

// needsSteps tells whether a mount begins with what steps have made, which
// might have to run again for it.
func (g *graph) needsSteps(use mountUse) bool {
	if use.mount.Input < 0 {
		return false
	}
	needs := false
	g.walk(inputEdge(g.ops[use.vertex].Inputs[use.mount.Input]), func(e edge) bool {
		needs = needs || g.ops[e.vertex].GetExec() != nil
		return true
	})
	return needs
}

func (e *Engine) reach(ctx context.Context, s *sender, g *graph, use mountUse, h Helper, handler MountHandler) error {
	definition, err := mountStepDefinition(g, g.ops[use.vertex], use.mount, h)
	if err != nil {
		return err
	}
	return e.runOnMount(ctx, s, definition, h, handler)
}
