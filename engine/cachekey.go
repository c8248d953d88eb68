package engine

import (
	"encoding/json"
	"fmt"
	"path"
	"strings"

	"github.com/containerd/platforms"
	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// recordDigest is the digest of the cache records of an edge: what BuildKit
// makes of the operation alone, whatever its inputs (CacheMap of each
// operation in solver/llbsolver/ops, and rootKey in solver/cachemanager.go).
// False for operations whose digest depends on more, such as sources.
//
// All versions must agree about it, or they would not find each other's
// caches. Where one does not, its records are not recognised.
func (g *graph) recordDigest(e edge) (digest.Digest, bool) {
	op := g.ops[e.vertex]
	var key any
	switch {
	case op.GetExec() != nil:
		key = execKey(op.GetExec(), op.GetPlatform())
	case op.GetFile() != nil:
		key = fileKey(op.GetFile())
	case op.GetMerge() != nil:
		key = struct {
			Type  string
			Merge *pb.MergeOp
		}{"buildkit.merge.v0", op.GetMerge()}
	default:
		return "", false
	}
	raw, err := json.Marshal(key)
	if err != nil {
		return "", false
	}
	return digest.FromString(fmt.Sprintf("%s@%d", digest.FromBytes(raw), e.output)), true
}

func execKey(exec *pb.ExecOp, on *pb.Platform) any {
	exec = exec.CloneVT()
	for _, host := range exec.GetMeta().GetExtraHosts() {
		host.IP = ""
	}
	if exec.Meta != nil {
		exec.Meta.ProxyEnv = nil
	}
	for _, mount := range exec.Mounts {
		mount.Selector = ""
		if mount.CacheOpt != nil && !defaultCacheMount(mount) {
			mount.CacheOpt.ID, mount.CacheOpt.Sharing = "", 0
		}
	}
	if len(exec.Mounts) == 1 && plainRoot(exec.Mounts[0]) {
		exec.Mounts = nil
	}
	p := platforms.DefaultSpec()
	if on != nil {
		p = ocispec.Platform{OS: on.OS, Architecture: on.Architecture, Variant: on.Variant, OSVersion: on.OSVersion, OSFeatures: on.OSFeatures}
	}
	p = platforms.Normalize(p)
	return struct {
		Type       string
		Exec       *pb.ExecOp
		OS         string
		Arch       string
		Variant    string   `json:",omitempty"`
		OSVersion  string   `json:",omitempty"`
		OSFeatures []string `json:",omitempty"`
	}{"buildkit.exec.v0", exec, p.OS, p.Architecture, p.Variant, p.OSVersion, p.OSFeatures}
}

// defaultCacheMount tells whether a cache mount has the id that the Dockerfile
// frontend gives by itself, with or without a namespace.
func defaultCacheMount(m *pb.Mount) bool {
	_, inNamespace, _ := strings.Cut(m.CacheOpt.ID, "/")
	return m.CacheOpt.Sharing == 0 && (m.CacheOpt.ID == m.Dest || inNamespace == m.Dest)
}

// plainRoot tells whether a mount is that of a RUN without others.
func plainRoot(m *pb.Mount) bool {
	return m.Dest == "/" && m.Selector == "" && !m.Readonly && m.MountType == pb.MountType_BIND &&
		m.CacheOpt == nil && m.SSHOpt == nil && m.SecretOpt == nil && m.ResultID == ""
}

func fileKey(file *pb.FileOp) any {
	key := struct {
		Type    string
		Actions [][]byte
		Indexes [][]int `json:"indexes,omitempty"`
	}{Type: "buildkit.file.v0"}
	for _, action := range file.Actions {
		raw, _ := json.Marshal(fileAction(action)) // plain data: cannot fail
		key.Actions = append(key.Actions, raw)
		key.Indexes = append(key.Indexes, []int{int(action.Input), int(action.SecondaryInput), int(action.Output)})
	}
	if defaultIndexes(key.Indexes) {
		key.Indexes = nil
	}
	return key
}

func fileAction(action *pb.FileAction) any {
	switch a := action.Action.(type) {
	case *pb.FileAction_Mkdir:
		return a.Mkdir
	case *pb.FileAction_Mkfile:
		return a.Mkfile
	case *pb.FileAction_Symlink:
		return a.Symlink
	case *pb.FileAction_Rm:
		return a.Rm
	case *pb.FileAction_Copy:
		c := a.Copy.CloneVT()
		if action.SecondaryInput != -1 {
			c.Src = path.Base(c.Src) // what it selects is part of the input's key
		}
		return c
	}
	return nil
}

// defaultIndexes tells whether each action works on the outcome of the one
// before: isDefaultIndexes in solver/llbsolver/ops/file.go.
func defaultIndexes(indexes [][]int) bool {
	for i, index := range indexes {
		switch {
		case i == 0 && index[0] != 0, i != 0 && index[0] != len(indexes)+i-1:
			return false
		case index[1] != -1 && index[1] != 1:
			return false
		case i == len(indexes)-1 && index[2] != 0, i != len(indexes)-1 && index[2] != -1:
			return false
		}
	}
	return len(indexes) > 0
}
