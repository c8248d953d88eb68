package proxies_test

import (
	"encoding/xml"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/docker-build-remote-cache/docker-build-remote-cache/proxies"
	"github.com/docker-build-remote-cache/docker-build-remote-cache/stages"
	"github.com/google/go-cmp/cmp"
	"github.com/pelletier/go-toml/v2"
)

func TestSteps(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		run  string // after RUN
		want string // the tools
	}{
		{"make", ""},
		{"apt-get update && apt-get install --yes curl", "apt"},
		{"set -eux; sudo -E apt-get update; rm -rf /var/lib/apt/lists/*", "apt"},
		{`["/usr/bin/apt-get", "update"]`, "apt"},
		{`["sh", "-c", "npm ci && pip install -r x"]`, "pip npm"},
		{"<<EOF\nset -e\ngo mod download\ncargo fetch\nEOF", "go cargo"},
		{"cat <<EOF >x\napt-get update\nEOF", ""},
		{"echo apt-get npm pip", ""},
		{"python3 -m pip install flask", "pip"},
		{"/venv/bin/pip3.12 install flask", "pip"},
		{"pipx install black; piper", "pip"},
		{"pipenv sync", ""}, // has its own way to name an index
		{"npx prettier", "npm"},
		{"npm publish", ""},
		{"go version && go env GOPROXY >x", ""},
		{"GOFLAGS=-mod=mod CGO_ENABLED=0 go build ./...", "go"},
		{"if bundle check; then :; else bundle install; fi", "gem"},
		{"mvn -B package; ./gradlew build", "maven"},
		{"xargs -a packages apt-get install --yes", "apt"},
		{"--mount=type=cache,target=/var/cache/apt apt-get update", "apt"},
		{"--network=none go build ./...", ""},
		{"--network=host go build ./...", "go"},
		// What says that a script calls it.
		{": apt-get npm && ./setup.sh", "apt npm"},
		// The mount would be in the way.
		{"npm install --global npm@10 && npm ci", "npm"},
		{"rm -rf /usr/local/go && tar -C /usr/local -xzf go.tgz && go version && go build", ""},
		{"tar -C/usr/local -xzf go.tgz && go build", ""},
		{"rm -rf /etc/apt/apt.conf.d/* && apt-get update", ""},
		{"rm -rf /etc/apt/apt.conf.d && apt-get update", ""},
		{"rm /etc/apt/apt.conf.d/00proxy && apt-get update", "apt"},
		{"find /etc/apt -name '*proxy*' -delete && apt-get update", ""},
		{"--mount=type=bind,source=conf,target=/etc/apt apt-get update", ""},
		{"--mount=type=tmpfs,target=$DIR apt-get update", ""},
		{"apt-get install 'unclosed", ""},
	} {
		f, err := stages.Parse([]byte("FROM a\nRUN "+test.run+"\n"), stages.Options{})
		if err != nil {
			t.Fatalf("%s: %v", test.run, err)
		}
		var got []string
		for _, step := range proxies.Steps(f) {
			for _, tool := range step.Tools {
				got = append(got, string(tool))
			}
		}
		if strings.Join(got, " ") != test.want {
			t.Errorf("RUN %s: %v, want %s", test.run, got, test.want)
		}
	}
}

// The mounts are in the keys of everybody's steps: a change makes all of them
// run again, once.
func TestEdits(t *testing.T) {
	t.Parallel()
	f, err := stages.Parse([]byte(`FROM a AS b
RUN apt-get update
RUN make
FROM b
RUN pip install a && npm ci && gem install b && go install c && \
    mvn d && cargo build
`), stages.Options{})
	if err != nil {
		t.Fatal(err)
	}
	edited, err := f.Edited(proxies.Edits(proxies.Steps(f)))
	if err != nil {
		t.Fatal(err)
	}
	const id = " --mount=type=secret,id=docker-build-remote-cache.proxy."
	const scratch = " --mount=type=tmpfs,id=docker-build-remote-cache.proxy."
	want := `FROM a AS b
RUN` + id + `apt,target=/etc/apt/apt.conf.d/00docker-build-remote-cache,mode=0444 apt-get update
RUN make
FROM b
RUN` + id + `pip,target=/etc/xdg/pip/pip.conf,mode=0444` + scratch + `pip.scratch,target=/dev/docker-build-remote-cache/pip` +
		id + `npm,target=/usr/local/lib/node_modules/npm/npmrc,mode=0444` + scratch + `npm.scratch,target=/dev/docker-build-remote-cache/npm` +
		id + `gem,target=/usr/local/lib/ruby/site_ruby/rubygems/defaults/operating_system.rb,mode=0444` + scratch + `gem.scratch,target=/dev/docker-build-remote-cache/gem` +
		id + `go,target=/usr/local/go/go.env,mode=0444` +
		id + `maven,target=/usr/share/maven/conf/settings.xml,mode=0444` +
		id + `cargo,target=/.cargo/config.toml,mode=0444` +
		` pip install a && npm ci && gem install b && go install c && \
    mvn d && cargo build
`
	if diff := cmp.Diff(want, string(edited.Source)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestIDs(t *testing.T) {
	t.Parallel()
	for _, tool := range proxies.Tools() {
		got, ok := proxies.ToolOf(proxies.SecretID(tool))
		if ok != (tool != proxies.Docker) || got != tool {
			t.Errorf("%s: %q, %v", tool, got, ok)
		}
	}
	if _, ok := proxies.ToolOf("mine"); ok {
		t.Error("a user's secret was taken for one of ours")
	}
}

func TestFrontendKnown(t *testing.T) {
	t.Parallel()
	for directive, want := range map[string]bool{
		"":                                                      true,
		"docker/dockerfile":                                     true,
		"docker/dockerfile:1":                                   true,
		"docker.io/docker/dockerfile:1.2":                       true,
		"docker/dockerfile:1.10.0":                              true,
		"docker/dockerfile:1.7-labs":                            true,
		"docker/dockerfile-upstream:master":                     true,
		"docker/dockerfile:1.1":                                 false,
		"docker/dockerfile:1.0-experimental":                    false,
		"docker/dockerfile:1.1-experimental":                    false,
		"docker/dockerfile:1.10\n":                              false,
		"ghcr.io/acme/dockerfile:1":                             false,
		"evil.example/docker/dockerfile:1":                      false,
		"docker/dockerfile:1@sha256:" + strings.Repeat("0", 64): true,
	} {
		if got := proxies.FrontendKnown(directive); got != want {
			t.Errorf("%q: %v", directive, got)
		}
	}
}

func address(t *testing.T, text string) proxies.Address {
	t.Helper()
	a, err := proxies.ParseAddress(text)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestContents(t *testing.T) {
	t.Parallel()
	a := address(t, "http://me:p%40ss@cache.example:8080/root/pypi/")
	want := map[proxies.Tool]string{
		proxies.Apt: `Acquire::http::Proxy "http://me:p%40ss@cache.example:8080/root/pypi/";
Acquire::https::Proxy "DIRECT";
`,
		proxies.Pip: `[global]
index-url = http://me:p%40ss@cache.example:8080/root/pypi/
cache-dir = /dev/docker-build-remote-cache/pip
trusted-host = cache.example
`,
		proxies.Npm: `registry=http://cache.example:8080/root/pypi/
omit-lockfile-registry-resolved=true
cache=/dev/docker-build-remote-cache/npm
//cache.example:8080/root/pypi/:_auth=bWU6cEBzcw==
`,
		proxies.Go: `GOPROXY=http://me:p%40ss@cache.example:8080/root/pypi|https://proxy.golang.org,direct
GOSUMDB=sum.golang.org
GOTOOLCHAIN=auto
`,
		proxies.Gem: `mirror = 'http://me:p%40ss@cache.example:8080/root/pypi/'
ENV['BUNDLE_MIRROR__HTTPS://RUBYGEMS__ORG/'] ||= mirror
ENV['BUNDLE_MIRROR__HTTPS://RUBYGEMS__ORG/__FALLBACK_TIMEOUT'] ||= '5'
ENV['BUNDLE_USER_CACHE'] ||= '/dev/docker-build-remote-cache/gem/bundle'
ENV['GEM_SPEC_CACHE'] ||= '/dev/docker-build-remote-cache/gem/specs'
Gem.singleton_class.send(:define_method, :default_sources) { [mirror] }
`,
	}
	for tool, text := range want {
		got, ok := proxies.Contents(tool, a)
		if diff := cmp.Diff(text, string(got)); diff != "" || !ok {
			t.Errorf("%s (-want +got)\n%s", tool, diff)
		}
	}
	if got, _ := proxies.Contents(proxies.Pip, address(t, "https://cache.example")); string(got) != "[global]\nindex-url = https://cache.example/\ncache-dir = /dev/docker-build-remote-cache/pip\n" {
		t.Errorf("with TLS, pip is told %q", got)
	}
	if _, ok := proxies.Contents(proxies.Docker, a); ok {
		t.Error("a step was given the registry's mirror")
	}
}

// What is in a format with a grammar is read back.
func TestContentsParse(t *testing.T) {
	t.Parallel()
	a := address(t, "http://me:p%40%26ss@cache.example/a+b")
	var settings struct {
		Servers []struct {
			Password string `xml:"password"`
		} `xml:"servers>server"`
		Mirrors []struct {
			Of  string `xml:"mirrorOf"`
			URL string `xml:"url"`
		} `xml:"mirrors>mirror"`
	}
	text, _ := proxies.Contents(proxies.Maven, a)
	if err := xml.Unmarshal(text, &settings); err != nil {
		t.Fatal(err)
	}
	if settings.Servers[0].Password != "p@&ss" || settings.Mirrors[0].Of != "central" || settings.Mirrors[0].URL != "http://cache.example/a+b" || len(settings.Mirrors) != 2 {
		t.Errorf("%+v", settings)
	}
	var config struct {
		Source map[string]map[string]string
	}
	text, _ = proxies.Contents(proxies.Cargo, address(t, "http://cache.example/index"))
	if err := toml.Unmarshal(text, &config); err != nil {
		t.Fatal(err)
	}
	if got := config.Source[config.Source["crates-io"]["replace-with"]]["registry"]; got != "sparse+http://cache.example/index/" {
		t.Errorf("cargo is told %q", got)
	}
}

func TestAddress(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ text, shown, root string }{
		{"http://cache.example:3142", "http://cache.example:3142", "http://cache.example:3142/"},
		{"https://me:hidden@cache.example/a/b/", "https://xxxxx@cache.example/a/b/", "https://cache.example/"},
		{"https://hidden@cache.example", "https://xxxxx@cache.example", "https://cache.example/"},
		{"http://[::1]:80/", "http://[::1]:80/", "http://[::1]:80/"},
	} {
		a := address(t, test.text)
		for _, shown := range []string{a.String(), fmt.Sprint(a), fmt.Sprintf("%v %+v", a, a), fmt.Sprintf("%#v", a)} {
			if strings.Contains(shown, "hidden") {
				t.Errorf("%s is shown with its password: %s", test.text, shown)
			}
		}
		if a.String() != test.shown || a.Root() != test.root {
			t.Errorf("%s: %s, %s", test.text, a, a.Root())
		}
	}
	for _, text := range []string{
		"", "cache.example", "ftp://a", "http://", "http://:80", "http://a/?b=c", "http://a/#b", "http://a b", "http://a/'", `http://a/"`,
		"http://a/\\", "http://a\n", "http://a/,b", "http://a/|b", "http://a/$HOME", "http://a/;b", "http://hidden:%zz@a", "http://a/" + strings.Repeat("b", proxies.MaxAddress),
	} {
		_, err := proxies.ParseAddress(text)
		if err == nil || strings.Contains(err.Error(), "hidden") {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestOnHost(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"http://localhost:3142/x":            "http://10.0.0.1:3142/x",
		"http://127.0.0.5":                   "http://10.0.0.1",
		"http://[::1]:80":                    "http://10.0.0.1:80",
		"https://a:b@host.docker.internal:1": "https://a:b@10.0.0.1:1",
		"http://cache.example":               "",
		"http://10.1.1.1":                    "",
	} {
		a := address(t, text)
		if a.OnHost() != (want != "") || want != "" && a.At("10.0.0.1").URL() != want {
			t.Errorf("%s: %v, %s", text, a.OnHost(), a.At("10.0.0.1").URL())
		}
	}
	if got := address(t, "http://localhost:1").At("fd00::1").URL(); got != "http://[fd00::1]:1" {
		t.Error(got)
	}
}

func TestSettings(t *testing.T) {
	t.Parallel()
	set := func(texts ...string) proxies.Settings {
		var s proxies.Settings
		for _, text := range texts {
			if err := s.Set(text); err != nil {
				t.Fatalf("%s: %v", text, err)
			}
		}
		return s
	}
	option, user, machine := set("apt=http://option", "npm=none"), set("apt=http://user", "npm=http://user", "go=http://user"), set("go=http://machine", "pip=http://machine")
	joined := option.Under(user).Under(machine)
	var got []string
	for _, tool := range proxies.Tools() {
		if a, ok := joined.Of(tool); ok {
			got = append(got, string(tool)+" "+a.String())
		}
	}
	if want := []string{"apt http://option", "pip http://machine", "go http://user"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	off := set("none")
	if _, ok := off.Under(machine).Of(proxies.Pip); ok || !off.Under(machine).AsWritten {
		t.Error("none was overridden by what counts less")
	}
	if on := set("apt=http://a").Under(off); on.AsWritten {
		t.Error("a proxy was overridden by what counts less")
	}
	for text, want := range map[string]string{
		"apd=http://a":             "did you mean apt?",
		"yarn=http://hidden":       `there is no proxy for "yarn"`,
		"http://me:hidden@a/?x=y":  "neither TOOL=URL nor none",
		"apt":                      "neither TOOL=URL nor none",
		"apt=hidden":               "apt: the URL does not begin with",
		"cargo=http://a:hidden@b":  "no password",
		"docker=http://a/hidden":   "a host and a port alone",
		"docker=http://a:hidden@b": "a host and a port alone",
	} {
		var s proxies.Settings
		err := s.Set(text)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hidden") {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
}

// Whatever is accepted stays on its line in every file, and is never shown
// with its password.
func FuzzAddress(f *testing.F) {
	f.Add("http://me:secret@cache.example:8080/a/b")
	f.Add("https://[::1]/%22%0a")
	f.Fuzz(func(t *testing.T, text string) {
		a, err := proxies.ParseAddress(text)
		if err != nil {
			return
		}
		plain, _ := proxies.ParseAddress("http://plain.example")
		for _, tool := range proxies.Tools() {
			got, ok := proxies.Contents(tool, a)
			want, _ := proxies.Contents(tool, plain)
			if !ok || a.Password() != "" || strings.HasPrefix(text, "https") {
				continue
			}
			if strings.Count(string(got), "\n")-strings.Count(string(want), "\n") > 1 { // npm's and maven's line for a user
				t.Errorf("%s: %q", tool, got)
			}
			for _, quote := range []string{`"`, `'`} {
				if strings.Count(string(got), quote) != strings.Count(string(want), quote) {
					t.Errorf("%s: %q", tool, got)
				}
			}
		}
		if password := a.Password(); len(password) > 12 && strings.Contains(a.String(), password) && !strings.Contains(strings.Replace(text, password, "", 1), password) {
			t.Errorf("%s is shown with its password", a)
		}
	})
}
