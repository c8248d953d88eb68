//go:build bench

package bench

import (
	"archive/tar"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/docker-build-remote-cache/docker-build-remote-cache/internal/testbed"
)

// The mount that TestMounts keeps.
const (
	mountFiles       = 26_000
	mountDirectories = 2_000
	mountMean        = 300_000_000 / mountFiles // bytes
	mountOptions     = "type=cache,id=bench,target=/cache"
)

const (
	cacheDance   = "cache-dance"
	mountRestore = "restore"
	mountSave    = "save, all of it new"
	mountChange  = "save, 1 % changed"
	mountGoal    = "restore and save"
)

// TestMounts measures how long it takes to keep a cache mount from one runner
// to the next, beside the method of buildkit-cache-dance.
func TestMounts(t *testing.T) {
	env := testbed.Up(t, testbed.BuildKitd, testbed.Buildx, testbed.Docker)
	b := &bench{env: env, environ: env.Environ(), directory: *keep, engines: map[string]*testbed.Engine{}}
	if b.directory == "" {
		b.directory = t.TempDir()
	}
	for _, name := range []string{testbed.BuildKitd, testbed.Buildx, testbed.Docker} {
		b.engines[name] = env.Engine(t, name)
	}
	b.environ = append(b.environ, "DOCKER_HOST="+b.engines[testbed.Docker].Address, "BUILDKIT_HOST="+b.engines[testbed.BuildKitd].Address)
	b.meter = newMeter(&url.URL{Scheme: "http", Host: env.Registry})
	b.registry = serve(t, b.meter)
	tool := compile(t, b.directory)
	all, some := b.mountContext(t, "all", 1), b.mountContext(t, "some", 100)
	r := &results{peers: []string{cacheDance, thisTool}, scenarios: []string{mountRestore, mountSave, mountChange, mountGoal}}
	loadBefore := load()
	var whole, changed int64
	for round := range *repeats {
		b.dance(t, r, all, some)
		whole, changed = b.keepMount(t, r, tool, fmt.Sprintf("%s/bench/mounts-%s-%d", b.registry, stamp, round), all, some)
	}
	var w strings.Builder
	fmt.Fprintf(&w, "Measurements of each: %d, under a load average of %s before, %s after. Medians, and the range:\n\n", *repeats, loadBefore, load())
	r.writeSeconds(&w)
	fmt.Fprintf(&w, "\nTo the registry went %.1f MB of the whole mount, %.2f MB of the 1 %%.\n\nThe goals:\n\n", float64(whole)/1e6, float64(changed)/1e6)
	r.writeGoals(&w, []goal{{"restore and save: at least 3 times faster than cache-dance", cacheDance, mountGoal, 3, thisTool, mountGoal}})
	seconds, _ := r.median(thisTool, mountChange)
	fmt.Fprintf(&w, "| 1 %% changed: saved in under 1 s | %.2f s | %s |\n", seconds, met(seconds < 1))
	share := 100 * float64(changed) / float64(whole)
	fmt.Fprintf(&w, "| 1 %% changed: under 2 %% of the bytes | %.2f %% | %s |\n", share, met(share < 2))
	publish(t, "mounts", w.String(), true)
}

// dance lets two runners keep the mount by cache-dance.sh.
func (b *bench) dance(t *testing.T, r *results, all, some string) {
	directory := filepath.Join(t.TempDir(), "kept")
	dancing := func(verb string) time.Duration {
		return b.run(t, "dance-"+verb, false, exec.Command("./cache-dance.sh", verb, directory, mountOptions, b.env.Base("busybox:latest")))
	}
	fill := func(dir string) {
		b.run(t, "dance-fill", false, exec.Command("docker", "buildx", "build", "--builder", "testbed", "--build-arg", "BASE="+b.env.Base("busybox:latest"), dir))
	}
	fresh := func() {
		b.engines[testbed.Buildx].Fresh(t)
		b.engines[testbed.Docker].Fresh(t)
	}
	add := func(scenario string, elapsed time.Duration) {
		r.measured = append(r.measured, measurement{peer: cacheDance, scenario: scenario, elapsed: elapsed})
	}
	fresh()
	fill(all)
	add(mountSave, dancing("extract"))
	fresh()
	restore := dancing("inject")
	add(mountRestore, restore)
	fill(some)
	save := dancing("extract")
	add(mountChange, save)
	add(mountGoal, restore+save)
}

// keepMount lets two runners keep it by this tool, and returns what was
// uploaded by the first and the second, in bytes.
func (b *bench) keepMount(t *testing.T, r *results, tool, repository, all, some string) (whole, changed int64) {
	build := func(name, dir string) mountReport {
		b.engines[testbed.BuildKitd].Fresh(t)
		file := filepath.Join(b.directory, "mounts-"+name+".json")
		b.run(t, "mounts-"+name, false, exec.Command(tool, repository+":"+name, "--branch", "master", "--default-branch", "master",
			"--report", file, "--build-arg", "BASE="+b.env.Base("busybox:latest"), dir))
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var report struct{ Mounts []mountReport }
		if err := json.Unmarshal(raw, &report); err != nil {
			t.Fatal(err)
		}
		if len(report.Mounts) != 1 || report.Mounts[0].Changes == nil || len(report.Mounts[0].Saved) == 0 {
			t.Fatalf("the mount was not saved: %s", raw)
		}
		return report.Mounts[0]
	}
	add := func(scenario string, seconds float64) {
		r.measured = append(r.measured, measurement{peer: thisTool, scenario: scenario, elapsed: time.Duration(seconds * float64(time.Second))})
	}
	first := build("all", all)
	add(mountSave, first.Changes.Seconds)
	second := build("some", some)
	if second.Restored == nil || second.Restored.Error != "" || second.Restored.Entries < mountFiles || second.Changes.New != mountFiles/100 {
		t.Fatalf("%+v", second)
	}
	add(mountRestore, second.Restored.Seconds)
	add(mountChange, second.Changes.Seconds)
	add(mountGoal, second.Restored.Seconds+second.Changes.Seconds)
	return first.Changes.Uploaded, second.Changes.Uploaded
}

// mountReport is what the report says of the mount.
type mountReport struct {
	Restored *struct {
		Entries int
		Seconds float64
		Error   string
	}
	Changes *struct {
		New      int
		Uploaded int64
		Seconds  float64
	}
	Saved []struct{ Ref string }
}

// mountContext is a build context whose only step unpacks files into the
// mount: every so manieth of the same ones, with other contents each time.
// Text of a small vocabulary compresses about as well as source does.
func (b *bench) mountContext(t *testing.T, name string, every int) string {
	dir := filepath.Join(b.directory, "mount-"+name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	dockerfile := "ARG BASE\nFROM $BASE\nRUN --mount=type=bind,target=/from --mount=" + mountOptions + " tar -xf /from/files.tar -C /cache\n"
	if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte(dockerfile), 0o644); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(filepath.Join(dir, "files.tar"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	random := rand.New(rand.NewChaCha8([32]byte{byte(every)}))
	words := make([]string, 4000)
	for i := range words {
		word := make([]byte, 2+random.IntN(9))
		for j := range word {
			word[j] = byte('a' + random.IntN(26))
		}
		words[i] = string(word) + " "
	}
	archive := tar.NewWriter(f)
	at := time.Unix(1_700_000_000+int64(every), 0)
	for i := range mountFiles {
		size := int(random.ExpFloat64() * mountMean)
		if i%every != 0 {
			continue
		}
		text := make([]byte, 0, size+10)
		for len(text) < size {
			text = append(text, words[min(int(random.ExpFloat64()*600), len(words)-1)]...)
		}
		header := &tar.Header{Name: fmt.Sprintf("%02d/%02d/f%d", i%mountDirectories/100, i%100, i), Mode: 0o644, Size: int64(len(text)), ModTime: at}
		if err := archive.WriteHeader(header); err != nil {
			t.Fatal(err)
		}
		if _, err := archive.Write(text); err != nil {
			t.Fatal(err)
		}
	}
	if err := archive.Close(); err != nil {
		t.Fatal(err)
	}
	return dir
}
