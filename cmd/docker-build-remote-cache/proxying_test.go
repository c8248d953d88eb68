package main

import (
	"slices"
	"testing"

	"github.com/docker-build-remote-cache/docker-build-remote-cache/engine"
	"github.com/docker-build-remote-cache/docker-build-remote-cache/proxies"
)

// Whoever reads a state file does not find the passwords of proxies.
func TestStateHasNoProxies(t *testing.T) {
	t.Parallel()
	secret := "apt=http://me:hunter2@a.example"
	environment := map[string]*string{ownPrefix + "PROXY": &secret, ownPrefix + "BRANCH": &secret}
	forgetProxies(environment)
	args := []string{"app", "--proxy", secret, "--proxy=" + secret, "--branch", "b", "dir"}
	if got, want := withoutProxies(args, false), []string{"app", "--branch", "b", "dir"}; !slices.Equal(got, want) {
		t.Errorf("arguments are %q, want %q", got, want)
	}
	if got := withoutProxies([]string{"app", "--proxy", "none"}, true); !slices.Equal(got, []string{"--proxy=none", "app"}) {
		t.Errorf("arguments are %q", got)
	}
	if len(environment) != 1 || environment[ownPrefix+"BRANCH"] == nil {
		t.Errorf("environment is %v", environment)
	}
}

func TestMirrorAdds(t *testing.T) {
	t.Parallel()
	address, err := proxies.ParseAddress("http://mirror.example:5000")
	if err != nil {
		t.Fatal(err)
	}
	m := &mirror{address: address}
	const digest = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	for _, image := range []string{"debian", "debian:12", "docker.io/acme/app:1", "debian@" + digest, "ghcr.io/acme/app:1", "localhost:5000/a", "debian:12", "Not An Image"} {
		m.add(image)
	}
	want := []engine.KeyValue{
		{Key: "debian", Value: "docker-image://mirror.example:5000/library/debian:latest"},
		{Key: "debian:12", Value: "docker-image://mirror.example:5000/library/debian:12"},
		{Key: "docker.io/acme/app:1", Value: "docker-image://mirror.example:5000/acme/app:1"},
		{Key: "debian@" + digest, Value: "docker-image://mirror.example:5000/library/debian@" + digest},
	}
	if !slices.Equal(m.contexts, want) {
		t.Errorf("got %v", m.contexts)
	}
}

func FuzzConfig(f *testing.F) {
	f.Add([]byte("[proxy]\napt = \"http://a\"\n"))
	f.Add([]byte("[proxy]\nall = \"none\"\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		settings, err := parseConfig(text)
		if err != nil && (settings.AsWritten || len(settings.Proxies) > 0) {
			t.Error("half of a file was obeyed")
		}
	})
}
