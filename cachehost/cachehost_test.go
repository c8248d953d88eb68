package cachehost_test

import (
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/types"

	"github.com/docker-build-remote-cache/docker-build-remote-cache/cachehost"
)

// load reads the file as docker compose does.
func load(t *testing.T, environment map[string]string) *types.Project {
	t.Helper()
	project, err := loader.LoadWithContext(t.Context(), types.ConfigDetails{
		WorkingDir:  t.TempDir(),
		ConfigFiles: []types.ConfigFile{{Filename: "compose.yaml", Content: cachehost.Compose}},
		Environment: environment,
	})
	if err != nil {
		t.Fatal(err)
	}
	return project
}

func TestComposeFile(t *testing.T) {
	t.Parallel()
	project := load(t, map[string]string{cachehost.ListenVariable: "10.0.0.1"})
	pinned := regexp.MustCompile(`^[a-z0-9/.-]+:v?[0-9]+\.[0-9]+\.[0-9]+(-[a-z0-9]+)?$`)
	ports := map[string]bool{}
	for name, service := range project.Services {
		if !pinned.MatchString(service.Image) {
			t.Errorf("%s: the image %s has no tag of one version", name, service.Image)
		}
		if service.HealthCheck == nil || len(service.HealthCheck.Test) == 0 {
			t.Errorf("%s has no health check", name)
		}
		if service.Restart != "unless-stopped" {
			t.Errorf("%s is not started again", name)
		}
		for _, port := range service.Ports {
			ports[port.Published] = true
			if port.HostIP != "10.0.0.1" {
				t.Errorf("%s is open at %q", name, port.HostIP)
			}
		}
		if len(service.Volumes) == 0 {
			t.Errorf("%s keeps nothing", name)
		}
		for _, volume := range service.Volumes {
			if _, ok := project.Volumes[volume.Source]; !ok || volume.Type != types.VolumeTypeVolume {
				t.Errorf("%s: %s is no volume", name, volume.Source)
			}
		}
	}
	for _, value := range cachehost.Proxies("10.0.0.1") {
		_, address, _ := strings.Cut(value, "=")
		u, err := url.Parse(address)
		if err != nil || !ports[u.Port()] {
			t.Errorf("nothing listens for %s", value)
		}
		if path := strings.Trim(u.Path, "/"); path != "" && !strings.Contains(project.Configs["nginx"].Content, "location /"+strings.Split(path, "/")[0]+"/ ") {
			t.Errorf("nginx serves nothing for %s", value)
		}
	}
	for _, service := range load(t, nil).Services {
		for _, port := range service.Ports {
			if port.HostIP != "127.0.0.1" {
				t.Errorf("by default, %s is open at %q", service.Name, port.HostIP)
			}
		}
	}
}

func TestMirror(t *testing.T) {
	t.Parallel()
	if got := cachehost.Mirror("::1"); got != "http://[::1]:5050" {
		t.Error(got)
	}
}
