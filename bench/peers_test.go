//go:build bench

package bench

import (
	"os/exec"
	"path/filepath"
	"strconv"

	"github.com/docker-build-remote-cache/docker-build-remote-cache/internal/testbed"
)

// build is one build to be done by each peer.
type build struct {
	repository string
	branch     string
	dir        string   // the build context
	args       []string // --build-arg options
	number     int      // of the commit that is built
}

func (b build) image() string { return b.repository + ":commit-" + strconv.Itoa(b.number) }

// peer is one of the commands that are compared.
type peer struct {
	name    string
	engine  string   // of the testbed
	only    []string // the scenarios that are measured, nil for all
	command func(build) *exec.Cmd
}

const (
	recipe        = "recipe"
	plain         = "buildx, no cache"
	buildx        = "buildx"
	buildxZstd    = "buildx, zstd"
	noCheckpoints = "this tool, no checkpoints"
	thisTool      = "this tool"
)

// peers are all peers, this tool last. tool is its binary; reports is a
// directory for its reports.
func peers(tool, reports string) []peer {
	return []peer{
		{name: recipe, engine: testbed.Docker, command: func(b build) *exec.Cmd {
			options := append([]string{b.image(), b.branch, "--network", testbed.Network}, b.args...)
			cmd := exec.Command("./recipe.sh", append(options, b.dir)...)
			cmd.Env = []string{"DOCKER_BUILDKIT=0"}
			return cmd
		}},
		{name: plain, engine: testbed.Buildx, only: []string{cold}, command: func(b build) *exec.Cmd {
			return buildxBuild(b)
		}},
		{name: buildx, engine: testbed.Buildx, command: func(b build) *exec.Cmd {
			return buildxBuild(b, cacheOptions(b, "")...)
		}},
		{name: buildxZstd, engine: testbed.Buildx, only: []string{cold, noChange, oneFile, newBranch}, command: func(b build) *exec.Cmd {
			return buildxBuild(b, cacheOptions(b, ",compression=zstd")...)
		}},
		{name: noCheckpoints, engine: testbed.BuildKitd, only: []string{cold}, command: func(b build) *exec.Cmd {
			return toolBuild(tool, b, "--checkpoint", "0")
		}},
		{name: thisTool, engine: testbed.BuildKitd, command: func(b build) *exec.Cmd {
			report := filepath.Join(reports, filepath.Base(b.repository)+"-"+strconv.Itoa(b.number)+".json")
			return toolBuild(tool, b, "--report", report)
		}},
	}
}

func toolBuild(tool string, b build, options ...string) *exec.Cmd {
	options = append([]string{b.image(), "--branch", b.branch, "--default-branch", "master"}, options...)
	return exec.Command(tool, append(append(options, b.args...), b.dir)...)
}

func buildxBuild(b build, options ...string) *exec.Cmd {
	options = append([]string{"buildx", "build", "--builder", "testbed", "--push", "--tag", b.image()}, options...)
	return exec.Command("docker", append(append(options, b.args...), b.dir)...)
}

// cacheOptions are those of the documentation for several branches:
// docs.docker.com/build/cache/backends/#multiple-caches
func cacheOptions(b build, attributes string) []string {
	ref := func(branch string) string { return "type=registry,ref=" + b.repository + ":cache-" + branch }
	options := []string{"--cache-to", ref(b.branch) + ",mode=max" + attributes, "--cache-from", ref(b.branch)}
	if b.branch != "master" {
		options = append(options, "--cache-from", ref("master"))
	}
	return options
}
