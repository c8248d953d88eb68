package engine

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/docker/cli/cli/config/configfile"
)

func TestBuilderInUse(t *testing.T) {
	t.Parallel()
	const host = "unix:///var/run/docker.sock"
	cases := map[string]struct {
		current string // the file of buildx, "" for none
		host    string
		want    string
	}{
		"no buildx":                            {"", "", ""},
		"chosen for this endpoint":             {`{"Key":"` + host + `","Name":"mine"}`, host, "mine"},
		"chosen for another":                   {`{"Key":"` + host + `","Name":"mine"}`, "tcp://other:2375", ""},
		"chosen for all":                       {`{"Key":"` + host + `","Name":"mine","Global":true}`, "tcp://other:2375", "mine"},
		"the default":                          {`{"Key":"` + host + `","Name":""}`, host, ""},
		"the default, named":                   {`{"Name":"default"}`, "", ""},
		"not what it should be":                {`{`, "", ""},
		"no endpoint named by the environment": {`{"Key":"` + host + `","Name":"mine"}`, "", "mine"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := Selection{DockerHost: c.host, ConfigDir: t.TempDir()}
			if c.current != "" {
				write(t, filepath.Join(s.buildxDir(), "current"), c.current)
			}
			if got := s.builderInUse(); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestDockerContextOfBuilder(t *testing.T) {
	t.Parallel()
	s := Selection{ConfigDir: t.TempDir()}
	write(t, filepath.Join(s.buildxDir(), "instances", "mine"), "{}")
	for builder, want := range map[string]bool{"default": true, "mine": false, "nobody": false} {
		if _, ok := s.dockerContextOf(builder); ok != want {
			t.Errorf("%s: got %v", builder, ok)
		}
	}
}

func TestConnectToNothing(t *testing.T) {
	t.Parallel()
	socket := "unix://" + filepath.Join(t.TempDir(), "none.sock")
	for name, s := range map[string]Selection{
		"BuildKit":        {BuildKitHost: socket},
		"Docker":          {DockerHost: socket},
		"classic":         {DockerHost: socket, Classic: true},
		"missing context": {DockerContext: "nowhere"},
	} {
		s.Config, s.ConfigDir = configfile.New(""), t.TempDir()
		_, err := Connect(context.Background(), s)
		var unreachable *UnreachableError
		if !errors.As(err, &unreachable) {
			t.Errorf("%s: got %v, want an UnreachableError", name, err)
		}
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
		t.Fatal(err)
	}
}
