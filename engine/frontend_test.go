package engine

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/docker/cli/cli/config/configfile"
	"github.com/google/go-cmp/cmp"
	"github.com/tonistiigi/fsutil"
	fstypes "github.com/tonistiigi/fsutil/types"
)

func TestFrontendAttributes(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cases := map[string]struct {
		options  Options
		embedded bool
		want     map[string]string
	}{
		"nothing": {Options{}, false, map[string]string{}},
		"build arguments and labels": {
			Options{BuildArgs: []BuildArg{{"A", "1"}, {"B", ""}}, Labels: []KeyValue{{"l", "v=w"}}}, false,
			map[string]string{"build-arg:A": "1", "build-arg:B": "", "label:l": "v=w"},
		},
		"no cache at all":        {Options{NoCache: true}, false, map[string]string{"no-cache": ""}},
		"no cache of two stages": {Options{NoCacheFilter: []string{"a", "b"}}, false, map[string]string{"no-cache": "a,b"}},
		"platforms and pull": {
			Options{Platforms: []string{"linux/amd64", "linux/arm64"}, Pull: true}, false,
			map[string]string{"platform": "linux/amd64,linux/arm64", "image-resolve-mode": "pull"},
		},
		"network":         {Options{Network: "host"}, false, map[string]string{"force-network-mode": "host"}},
		"default network": {Options{Network: "default"}, false, map[string]string{}},
		"hosts":           {Options{AddHosts: []Host{{"a", "1.2.3.4"}, {"b", "::1"}}}, false, map[string]string{"add-hosts": "a=1.2.3.4,b=::1"}},
		"host gateway":    {Options{AddHosts: []Host{{"h", hostGateway}}}, true, map[string]string{"add-hosts": "h=host-gateway"}},
		"limits": {
			Options{ShmSize: 1 << 20, Ulimits: []string{"nofile=1:2"}, CgroupParent: "p"}, false,
			map[string]string{"shm-size": "1048576", "ulimit": "nofile=1:2", "cgroup-parent": "p"},
		},
		"attestation": {Options{Attestations: []Attestation{{"provenance", "mode=max"}}}, false, map[string]string{"attest:provenance": "mode=max"}},
		"named contexts": {
			Options{BuildContexts: []KeyValue{{"src", dir}, {"base", "docker-image://alpine"}, {"other", "target:x"}}}, false,
			map[string]string{"context:src": "local:src", "context:base": "docker-image://alpine", "context:other": "target:x"},
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := frontendAttributes(c.options, c.embedded)
			if err != nil {
				t.Fatal(err)
			}
			c.want["filename"] = dockerfileName
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestUnsupportedOptionsAreErrors(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]Options{
		"classic":      {Classic: ClassicOptions{Squash: true}},
		"network":      {Network: "mynet"},
		"host gateway": {AddHosts: []Host{{"h", hostGateway}}},
		"oci layout":   {BuildContexts: []KeyValue{{"x", "oci-layout:///tmp/x"}}},
	} {
		_, err := frontendAttributes(o, false)
		var unsupported *UnsupportedError
		if !errors.As(err, &unsupported) || unsupported.Remedy == "" {
			t.Errorf("%s: got %v, want an UnsupportedError with a remedy", name, err)
		}
	}
	if _, err := frontendAttributes(Options{BuildContexts: []KeyValue{{"x", "/nowhere"}}}, false); err == nil {
		t.Error("a named context that does not exist: no error")
	}
}

// The mode of a file is part of the cache key of a COPY; what the umask of a
// checkout made of it must not be.
func TestContextIsTheSameForEveryUmask(t *testing.T) {
	t.Parallel()
	sent := func(file, dir os.FileMode) map[string]uint32 {
		root := t.TempDir()
		sub := filepath.Join(root, "sub")
		if err := errors.Join(os.Mkdir(sub, 0o755), os.WriteFile(filepath.Join(sub, "f"), nil, 0o644),
			os.Chmod(filepath.Join(sub, "f"), file), os.Chmod(sub, dir)); err != nil {
			t.Fatal(err)
		}
		files, err := contextFiles(root)
		if err != nil {
			t.Fatal(err)
		}
		return modes(t, files)
	}
	if diff := cmp.Diff(sent(0o644, 0o755), sent(0o664, 0o775)); diff != "" {
		t.Error(diff)
	}
	if cmp.Equal(sent(0o644, 0o755), sent(0o600, 0o755)) {
		t.Error("a private file is sent like a public one")
	}
	if cmp.Equal(sent(0o644, 0o755), sent(0o755, 0o755)) {
		t.Error("an executable file is sent like a plain one")
	}
}

func modes(t *testing.T, files fsutil.FS) map[string]uint32 {
	t.Helper()
	found := map[string]uint32{}
	err := files.Walk(t.Context(), "", func(path string, entry os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		stat := info.Sys().(*fstypes.Stat)
		if stat.Uid != 0 || stat.Gid != 0 {
			t.Errorf("%s is sent as owned by %d:%d", path, stat.Uid, stat.Gid)
		}
		found[path] = stat.Mode
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestSenderServesTheDockerfileOfEachSolve(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	dockerfile := filepath.Join(root, "build.Dockerfile")
	if err := os.WriteFile(dockerfile+".dockerignore", []byte("secret\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	s, err := newSender(Options{Context: root, Dockerfile: dockerfile, Network: "host"}, "builder", false, configfile.New(""))
	if err != nil {
		t.Fatal(err)
	}
	opt, err := s.solveOpt([]byte("FROM scratch"))
	if err != nil {
		t.Fatal(err)
	}
	if got := opt.FrontendAttrs["build-arg:TARGETSTAGE"]; got != "builder" {
		t.Errorf("TARGETSTAGE is %q", got)
	}
	if diff := cmp.Diff([]string{"network.host"}, opt.AllowedEntitlements); diff != "" {
		t.Error(diff)
	}
	var names []string
	for name := range modes(t, opt.LocalMounts[dockerfileMount]) {
		names = append(names, name)
	}
	if len(names) != 2 {
		t.Errorf("beside the Dockerfile and its ignore file: %q", names)
	}
	file, err := opt.LocalMounts[dockerfileMount].Open(dockerfileName)
	if err != nil {
		t.Fatal(err)
	}
	if text, err := io.ReadAll(file); err != nil || string(text) != "FROM scratch" {
		t.Errorf("%q, %v", text, err)
	}
}
