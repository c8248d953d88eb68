package engine

import (
	"context"
	"fmt"
	"path"
	"slices"

	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"
)

// contents finds the cache records of what a step mounts from the build
// context: BuildKit knows it by its content, which only the daemon has. The
// daemon is asked to copy it, which it finds by the same content, and for the
// records of that copy. What cannot be found out is left out.
func (b *solveBuild) contents(ctx context.Context, g *graph, vertex digest.Digest) map[edge][]digest.Digest {
	var asked []edge
	var copies []*pb.Definition
	for i, in := range g.ops[vertex].Inputs {
		source := inputEdge(in)
		if _, image := imageKey(g.ops[source.vertex].GetSource(), g.ops[source.vertex].GetPlatform()); image || !g.fetched(source.vertex) {
			continue
		}
		paths := mountedPaths(g.ops[vertex].GetExec(), int64(i))
		if len(paths) == 0 {
			continue
		}
		definition, err := copyDefinition(g, source, paths)
		if err != nil {
			continue
		}
		asked, copies = append(asked, source), append(copies, definition)
	}
	found := map[edge][]digest.Digest{}
	if len(copies) == 0 {
		return found
	}
	ctx, cancel := context.WithTimeout(ctx, reachLimit)
	defer cancel()
	config, err := b.exportRecords(ctx, copies)
	if err != nil {
		return found
	}
	for i, definition := range copies {
		copied, err := newGraph(definition)
		if err != nil {
			continue
		}
		key, _ := copied.recordDigest(copied.root)
		for _, record := range config.Records {
			if record.Digest != key {
				continue
			}
			for _, link := range slices.Concat(record.Inputs...) {
				if link.LinkIndex >= 0 && link.LinkIndex < len(config.Records) {
					found[asked[i]] = append(found[asked[i]], config.Records[link.LinkIndex].Digest)
				}
			}
		}
	}
	return found
}

// mountedPaths are those that a step mounts of an input, none unless BuildKit
// goes by their contents (getMountDeps in solver/llbsolver/ops/exec.go).
func mountedPaths(exec *pb.ExecOp, input int64) []string {
	var paths []string
	for _, mount := range exec.GetMounts() {
		if mount.Input != input {
			continue
		}
		if mount.Dest == "/" || mount.MountType != pb.MountType_BIND || !mount.Readonly && mount.Output != -1 {
			return nil
		}
		paths = append(paths, path.Join("/", mount.Selector))
	}
	return paths
}

// copyDefinition copies paths of a source.
func copyDefinition(g *graph, source edge, paths []string) (*pb.Definition, error) {
	definition := g.sub(source)
	definition.Def = slices.Clone(definition.Def[:len(definition.Def)-1])
	file := &pb.FileOp{}
	for i, path := range paths {
		action := &pb.FileAction{Input: int64(i), SecondaryInput: 0, Output: -1, Action: &pb.FileAction_Copy{Copy: &pb.FileActionCopy{
			Src: path, Dest: fmt.Sprintf("/%d/", i), FollowSymlink: true, CreateDestPath: true, DirCopyContents: true, Mode: -1, Timestamp: -1,
		}}}
		if i == 0 {
			action.Input = -1 // an empty directory; the others go on with what is before them
		}
		if i == len(paths)-1 {
			action.Output = 0
		}
		file.Actions = append(file.Actions, action)
	}
	copying := &pb.Op{
		Inputs:   []*pb.Input{{Digest: string(source.vertex), Index: source.output}},
		Platform: g.ops[source.vertex].Platform,
		Op:       &pb.Op_File{File: file},
	}
	raw, err := copying.MarshalVT()
	if err != nil {
		return nil, fmt.Errorf("write build definition: %w", err)
	}
	end, err := (&pb.Op{Inputs: []*pb.Input{{Digest: string(digest.FromBytes(raw))}}}).MarshalVT()
	definition.Def = append(definition.Def, raw, end)
	return definition, err
}
