package e2e

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// The options of docker build mean what they mean there, on every engine.
func TestDockerOptions(t *testing.T) {
	t.Parallel()
	onEveryEngine(t, func(t *testing.T, r *runner) {
		r.write(t, "src/file", "from src\n")
		r.write(t, "other/file", "from other\n")
		r.write(t, "secret", "hush\n")
		r = r.on("master").with("--push=false", "-o", "out")
		r.vars = append(r.vars, "TOKEN=hush too", "VISIBLE=seen")
		// Each case is a stage of one Dockerfile that leaves a file called
		// /out: one build a case and engine would be the half of all builds of
		// this package.
		cases := []struct {
			name, dockerfile string
			args             []string
			out              string
		}{
			{"--build-arg", "ARG WHO=nobody\nRUN echo $WHO >/out\n", []string{"--build-arg", "WHO=me"}, "me\n"},
			{"--build-arg from the environment", "ARG VISIBLE\nRUN echo $VISIBLE >/out\n", []string{"--build-arg", "VISIBLE"}, "seen\n"},
			{"a secret file", "RUN --mount=type=secret,id=a cat /run/secrets/a >/out\n", []string{"--secret", "id=a,src=secret"}, "hush\n"},
			{"a secret variable", "RUN --mount=type=secret,id=TOKEN cat /run/secrets/TOKEN >/out\n", []string{"--secret", "id=TOKEN"}, "hush too"},
			{"--build-context of a directory", "COPY --from=else file /out\n", []string{"--build-context", "else=other"}, "from other\n"},
			{"--build-context of an image", "RUN --mount=from=tool,target=/tool test -x /tool/bin/busybox && echo found >/out\n",
				[]string{"--build-context", "tool=docker-image://" + r.env.Base("busybox:latest")}, "found\n"},
			{"a heredoc", "RUN <<END\necho one >/out\necho two >>/out\nEND\n", nil, "one\ntwo\n"},
			{"COPY of a heredoc", "COPY <<END /out\ntext\nEND\n", nil, "text\n"},
			{"COPY --link", "COPY --link src/file /out\n", nil, "from src\n"},
			{"--platform", "ARG TARGETPLATFORM\nRUN echo $TARGETPLATFORM >/out\n", []string{"--platform", "linux/amd64"}, "linux/amd64\n"},
			{"--add-host", "RUN grep -o '192.0.2.7.*nearby' /etc/hosts | tr -s '\\t ' ' ' >/out\n", []string{"--add-host", "nearby:192.0.2.7"}, "192.0.2.7 nearby\n"},
			{"-f", "COPY src/file /out\n", []string{"-f", "Dockerfile.options", "."}, "from src\n"},
		}
		var dockerfile, results strings.Builder
		args := []string{r.image("1")}
		for i, c := range cases {
			fmt.Fprintf(&dockerfile, "FROM BASE\n%s", c.dockerfile)
			fmt.Fprintf(&results, "COPY --from=%d /out /%d\n", i, i)
			args = append(args, c.args...)
		}
		r.write(t, "Dockerfile.options", dockerfile.String()+"FROM scratch\n"+results.String())
		r.run(t, 0, args...)
		for i, c := range cases {
			if out := contents(t, filepath.Join(r.dir, "out", strconv.Itoa(i))); out != c.out {
				t.Errorf("%s: /out holds %q, want %q", c.name, out, c.out)
			}
		}
	})
}

// --target and --cache-stages leave out the stages that are not wanted.
func TestStagesThatAreNotWanted(t *testing.T) {
	r := onBuildKit(t).on("master").with("--push=false", "-o", "out")
	for _, c := range []struct{ option, dockerfile string }{
		{"--target=0", "FROM BASE\nRUN echo wanted >/out\nFROM BASE AS last\nRUN exit 1\n"},
		{"--cache-stages=target", "FROM BASE\nRUN exit 1\nFROM BASE AS last\nRUN echo wanted >/out\n"},
	} {
		r.write(t, "Dockerfile", c.dockerfile)
		os.RemoveAll(filepath.Join(r.dir, "out"))
		r.run(t, 0, r.image("1"), c.option)
		if out := contents(t, filepath.Join(r.dir, "out", "out")); out != "wanted\n" {
			t.Errorf("%s: /out holds %q", c.option, out)
		}
	}
}

// --no-cache uses none, --no-cache-filter none for some stages; what they made
// is saved as ever.
func TestNoCache(t *testing.T) {
	r := onBuildKit(t)
	writeProject(t, r)
	r = r.on("master")
	r.run(t, 0, r.image("1"))
	r.run(t, 0, r.image("1"), "--no-cache").wantSteps(t, "tools=r builder=rrrrr test=r 3=r")
	r.run(t, 0, r.image("1"), "--no-cache-filter", "test").wantSteps(t, "tools=c builder=ccccc test=r 3=c")

	r.engine.Fresh(t)
	r.run(t, 0, r.image("1")).wantSteps(t, nothingRan)
}

// A secret is no part of what is cached, and in no image and no cache.
func TestSecretsLeaveNoTrace(t *testing.T) {
	r := onBuildKit(t)
	r.write(t, "Dockerfile", "FROM BASE AS builder\nRUN --mount=type=secret,id=TOKEN test -n \"$(cat /run/secrets/TOKEN)\" && echo used >/used\nFROM BASE\nCOPY --from=builder /used /used\n")
	const first, second = "hunter2-of-the-first-run", "hunter2-of-the-second-run"
	r = r.on("master").with("--secret", "id=TOKEN")
	as := func(secret string) *runner {
		other := *r
		other.vars = append(append([]string{}, r.vars...), "TOKEN="+secret)
		return &other
	}
	cold := as(first).run(t, 0, r.image("1"))
	r.engine.Fresh(t)
	again := as(second).run(t, 0, r.image("1"))
	again.wantSteps(t, "builder=c 1=c")
	for _, o := range []outcome{cold, again} {
		if strings.Contains(o.stderr+o.stdout, "hunter2") {
			t.Errorf("a secret was printed:\n%s", o.stderr)
		}
	}
}

// --ssh lends an agent to a step.
func TestSSHAgent(t *testing.T) {
	r := onBuildKit(t)
	socket := filepath.Join(t.TempDir(), "agent")
	agent, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { agent.Close() })
	r.write(t, "Dockerfile", "FROM BASE\nRUN --mount=type=ssh test -S \"$SSH_AUTH_SOCK\" && echo lent >/out\n")
	r = r.on("master").with("--push=false", "-o", "out")
	r.run(t, 0, r.image("1"), "--ssh", "default="+socket)
	if out := contents(t, filepath.Join(r.dir, "out", "out")); out != "lent\n" {
		t.Errorf("/out holds %q", out)
	}
}

// A cache in a directory is read and written as docker buildx build does.
func TestCacheInADirectory(t *testing.T) {
	r := onBuildKit(t)
	writeProject(t, r)
	dir := filepath.Join(t.TempDir(), "cache")
	r = r.on("master").with("--push=false", "--cache-save=never")
	r.run(t, 0, r.image("1"), "--cache-to", "type=local,mode=max,dest="+dir)
	r.engine.Fresh(t)
	r.run(t, 0, r.image("1"), "--cache-from", "type=local,src="+dir).wantSteps(t, "tools=c builder=ccccc test=r 3=c")

	missing := r.run(t, 0, r.image("1"), "--cache-from", "type=local,src="+dir+"-not")
	missing.wantSaid(t, `^remote-cache: warning: nothing is read from --cache-from type=local: .*no such file`)
}
