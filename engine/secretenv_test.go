package engine_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/docker-build-remote-cache/docker-build-remote-cache/engine"
	"github.com/docker-build-remote-cache/docker-build-remote-cache/internal/testbed"
	"github.com/docker-build-remote-cache/docker-build-remote-cache/stages"
	"github.com/docker/cli/cli/config/configfile"
)

func TestSecretEnv(t *testing.T) {
	t.Parallel()
	const dockerfile = "FROM BASE\nRUN true\n"
	ask := func(t *testing.T, e *engine.Engine, file *stages.File, want bool) {
		t.Helper()
		if got, err := e.SecretEnv(t.Context(), engine.Options{}, file); err != nil || got != want {
			t.Errorf("got %v, %v, want %v", got, err, want)
		}
	}
	t.Run("docker", func(t *testing.T) {
		eachDockerBuilder(t, func(t *testing.T, r *runner) {
			e := r.connect(t)
			ask(t, e, r.project(t, dockerfile, nil).file, false)
			// A frontend that knows is of no use to an engine that does not.
			ask(t, e, r.project(t, "# syntax="+r.env.Base("dockerfile:1")+"\n"+dockerfile, nil).file, false)
		})
	})
	t.Run("buildkitd", func(t *testing.T) {
		t.Parallel()
		env := testbed.Up(t, testbed.BuildKitd)
		r := &runner{env: env, engine: env.Engine(t, testbed.BuildKitd)}
		e, err := engine.Connect(t.Context(), engine.Selection{BuildKitHost: r.engine.Address, Config: configfile.New(""), ConfigDir: t.TempDir()})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { e.Close() })
		ask(t, e, r.project(t, dockerfile, nil).file, true)

		ask(t, e, r.project(t, "# syntax="+r.env.Base("dockerfile:1")+"\n"+dockerfile, nil).file, true)
		// A frontend that cannot be had is an error, as it is for the build.
		file := r.project(t, "# syntax=127.0.0.1:1/no/such:frontend\n"+dockerfile, nil).file
		if known, err := e.SecretEnv(t.Context(), engine.Options{}, file); err == nil || !strings.Contains(err.Error(), "no/such") {
			t.Errorf("an unreachable frontend: %v, %v", known, err)
		}
	})
}

// On an engine whose frontend knows no env=, a value reaches a command through
// a file that exists only while the step runs, wherever the shell finds it.
func TestSecretFileLeavesNothing(t *testing.T) {
	t.Parallel()
	env := testbed.Up(t, testbed.Docker)
	r := &runner{env: env, engine: env.Engine(t, testbed.Docker), repository: env.Repo(t)}
	const path = "/dev/" + stages.ReservedPrefix + "x"
	p := r.project(t, `FROM BASE AS steps
RUN test "$X" = "it's" && test -f `+path+`
RUN test ! -e `+path+` && test -z "$X"
USER 1000
RUN test "$X" = "it's"
RUN test -z "$X"
FROM BASE
COPY --from=steps / /left
RUN ! find /left | grep `+stages.ReservedPrefix+`
`, nil)
	mount := "type=secret,id=" + stages.ReservedPrefix + "x,target=" + path + ",mode=0444"
	prelude := "test ! -f " + path + " || . " + path + ";"
	absent := strings.NewReplacer("id="+stages.ReservedPrefix+"x", "id="+stages.ReservedPrefix+"absent")
	var err error
	if p.file, err = p.file.Edited([]stages.Edit{
		{Line: 2, Mounts: []string{mount}, Prelude: prelude},
		{Line: 5, Mounts: []string{mount}, Prelude: prelude},
		{Line: 6, Mounts: []string{absent.Replace(mount)}, Prelude: prelude},
	}); err != nil {
		t.Fatal(err)
	}
	var progress bytes.Buffer
	request := r.request(p, nil)
	request.Options.Values = []engine.SecretValue{{ID: stages.ReservedPrefix + "x", Value: []byte(`export X='it'\''s'`)}}
	request.Progress.Out = &progress
	b := r.start(t.Context(), t, request)
	expect(t, b, engine.OK, map[engine.Status][]int{engine.Ran: {2, 3, 5, 6, 8, 9}})
	end(t, b)
	if got := progress.String(); !strings.Contains(got, `RUN test "$X" = "it's" && test -f`) || strings.Contains(got, "--mount") || strings.Contains(got, prelude) {
		t.Errorf("progress:\n%s", got)
	}
}

// With a frontend from an image, old engines know heredocs: a value is read in
// their first line.
func TestSecretFileOfAHeredoc(t *testing.T) {
	t.Parallel()
	env := testbed.Up(t, testbed.Docker)
	r := &runner{env: env, engine: env.Engine(t, testbed.Docker), repository: env.Repo(t)}
	p := r.project(t, "# syntax="+env.Base("dockerfile:1")+`
FROM BASE
ARG X
RUN <<-EOF
	set -e
	test "$X" = value
EOF
RUN cat <<EOF >/x && test "$(cat /x)" = "X is value"
X is $X
EOF
`, nil)
	v, err := p.file.Volatile([]stages.VolatileArg{{Name: "X", Value: "value", Given: true}}, []int{0}, false)
	if err == nil {
		p.file, err = p.file.Edited(v.Edits)
	}
	if err != nil {
		t.Fatal(err)
	}
	request := r.request(p, nil)
	for _, value := range v.Values {
		request.Options.Values = append(request.Options.Values, engine.SecretValue{ID: value.ID, Value: []byte(value.Text)})
	}
	b := r.start(t.Context(), t, request)
	expect(t, b, engine.OK, map[engine.Status][]int{engine.Ran: {4, 8}})
}
