package main

import (
	"testing"

	"github.com/containerd/platforms"

	"github.com/docker-build-remote-cache/docker-build-remote-cache/engine"
)

type attrs = map[string]string

// TestDockerOptions: what each form of each option becomes.
func TestDockerOptions(t *testing.T) {
	t.Parallel()
	vars := map[string]string{"TOKEN": "t0ken", "EMPTY": ""}
	cases := []struct {
		name string
		args []string
		want func(*options)
	}{
		{"add-host", []string{"--add-host", "a:1.2.3.4", "--add-host=b=1.2.3.5,c:[2001:db8::1]", "--add-host=d:::1", "--add-host", "e=host-gateway", "--add-host="},
			func(o *options) {
				o.build.AddHosts = []engine.Host{{Name: "a", Address: "1.2.3.4"}, {Name: "b", Address: "1.2.3.5"}, {Name: "c", Address: "2001:db8::1"}, {Name: "d", Address: "::1"}, {Name: "e", Address: "host-gateway"}}
			}},
		{"allow", []string{"--allow", "network.host", "--allow=security.insecure", "--allow=device=vendor.com/x", "--allow="},
			func(o *options) {
				o.build.Allow = []string{"network.host", "security.insecure", "device=vendor.com/x"}
			}},
		{"annotation", []string{"--annotation", "org.example.a=b:c=d", "--annotation=index,manifest[linux/arm64]:k=", "--annotation=manifest-descriptor:x=y"},
			func(o *options) {
				o.build.Annotations = []engine.Annotation{
					{Part: "manifest", Key: "org.example.a", Value: "b:c=d"}, {Part: "index", Key: "k"},
					{Part: "manifest", Platform: "linux/arm64", Key: "k"}, {Part: "manifest-descriptor", Key: "x", Value: "y"},
				}
			}},
		{"attest", []string{"--attest", "type=sbom,generator=g,FOO=bar", "--attest", `type=provenance,mode=max,"a=b,c"`},
			func(o *options) {
				o.build.Attestations = []engine.Attestation{{Type: "sbom", Attributes: "generator=g,FOO=bar"}, {Type: "provenance", Attributes: `mode=max,"a=b,c"`}}
			}},
		{"attest before its shorthand", []string{"--provenance=false", "--attest", "type=provenance,mode=max", "--sbom=generator=g"},
			func(o *options) {
				o.build.Attestations = []engine.Attestation{{Type: "provenance", Attributes: "mode=max"}, {Type: "sbom", Attributes: "generator=g"}}
			}},
		{"disabled attest", []string{"--attest=type=sbom,disabled=true", "--sbom=true", "--provenance=false", "--provenance="}, func(*options) {}},
		{"provenance and sbom", []string{"--provenance=mode=min", "--provenance=1", "--sbom=true"},
			func(o *options) {
				o.build.Attestations = []engine.Attestation{{Type: "provenance"}, {Type: "sbom"}}
			}},
		{"build-arg", []string{"--build-arg", "A=1", "--build-arg=B=x=y", "--build-arg=TOKEN", "--build-arg", "ABSENT", "--build-arg=EMPTY", "--build-arg=A=2", "--build-arg=B"},
			func(o *options) {
				o.build.BuildArgs = []engine.BuildArg{{Name: "A", Value: "2"}, {Name: "B", Value: "x=y"}, {Name: "TOKEN", Value: "t0ken"}, {Name: "EMPTY"}}
			}},
		{"build-context", []string{"--build-context", "docker.io/library/alpine:latest=docker-image://x@sha256:1", "--build-context=lib=../lib", "--build-context=alpine=dir=1"},
			func(o *options) {
				o.build.BuildContexts = []engine.KeyValue{{Key: "alpine", Value: "dir=1"}, {Key: "lib", Value: "../lib"}}
			}},
		{"cache-from", []string{"--cache-from", "a/b:c,d", "--cache-from=type=registry,ref=e", "--cache-from", `Type=local,SRC=p,"tag=x,y"`, "--cache-from=type=gha", "--cache-from="},
			func(o *options) {
				o.build.CacheFrom = []engine.CacheSpec{
					{Type: "registry", Attributes: attrs{"ref": "a/b:c"}}, {Type: "registry", Attributes: attrs{"ref": "d"}}, {Type: "registry", Attributes: attrs{"ref": "e"}},
					{Type: "local", Attributes: attrs{"src": "p", "tag": "x,y"}}, {Type: "gha", Attributes: attrs{}},
				}
			}},
		{"cache-to", []string{"--cache-to", "type=inline", "--cache-to=a", "--cache-to=type=s3,region=r,mode=max"},
			func(o *options) {
				o.build.CacheTo = []engine.CacheSpec{{Type: "inline", Attributes: attrs{}}, {Type: "registry", Attributes: attrs{"ref": "a"}}, {Type: "s3", Attributes: attrs{"region": "r", "mode": "max"}}}
			}},
		{"methods that build", []string{"--call", "build", "--call=build,format=json", "--call=", "--check=false"}, func(*options) {}},
		{"classic", []string{"--compress", "--cpu-period", "1000", "--cpu-quota=-1", "-c", "512", "--cpuset-cpus", "0-3", "--cpuset-mems=0,1", "--force-rm", "--isolation=process",
			"-m", "2g", "--memory-swap=-1", "--rm=false", "--security-opt", "a=b,c", "--squash"},
			func(o *options) {
				o.build.Classic = engine.ClassicOptions{Compress: true, CPUPeriod: 1000, CPUQuota: -1, CPUShares: 512, CPUSetCPUs: "0-3", CPUSetMems: "0,1", ForceRemove: true,
					Isolation: "process", Memory: 2 << 30, MemorySwap: -1, KeepContainers: true, SecurityOpts: []string{"a=b", "c"}, Squash: true}
			}},
		{"resource", []string{"--resource", "memory=2g", "--resource=memory-swap = 4g", "--resource=cpu-shares=2", "--resource=cpuset-cpus=0"},
			func(o *options) {
				o.build.Classic = engine.ClassicOptions{Memory: 2 << 30, MemorySwap: 4 << 30, CPUShares: 2, CPUSetCPUs: "0"}
			}},
		{"without effect", []string{"--disable-content-trust=false", "--stream", "--rm", "-D"}, func(*options) {}},
		{"strings", []string{"--builder", "b", "--cgroup-parent=c", "--iidfile", "i", "--metadata-file=m", "--network", "host", "--target=t"},
			func(o *options) {
				o.builder, o.iidFile, o.metadataFile = "b", "i", "m"
				o.build.CgroupParent, o.build.Network, o.build.Target = "c", "host", "t"
			}},
		{"label", []string{"--label", "a=b=c", "--label=d", "--label=a=e"},
			func(o *options) { o.build.Labels = []engine.KeyValue{{Key: "a", Value: "e"}, {Key: "d"}} }},
		{"no-cache-filter", []string{"--no-cache-filter", "a,b", "--no-cache-filter=c"},
			func(o *options) { o.build.NoCacheFilter = []string{"a", "b", "c"} }},
		{"output directory", []string{"-o", "out", "--output="},
			func(o *options) {
				o.build.Outputs = []engine.Output{{Type: "local", Destination: "out", Attributes: attrs{}}}
			}},
		{"output -", []string{"-o-"},
			func(o *options) {
				o.build.Outputs = []engine.Output{{Type: "tar", Destination: "-", Attributes: attrs{}}}
			}},
		{"output types", []string{"--output=type=local,dest=a", `--output=type=tar,"dest=a,b.tar"`, "--output", "type=oci", "--output=type=docker,tar=false,dest=d", "--output=type=image,Name=x,push=true", "--output=type=registry", "--output=type=cacheonly"},
			func(o *options) {
				o.discard = true
				o.build.Outputs = []engine.Output{
					{Type: "local", Destination: "a", Attributes: attrs{}}, {Type: "tar", Destination: "a,b.tar", Attributes: attrs{}},
					{Type: "oci", Destination: "-", Attributes: attrs{}}, {Type: "docker", Destination: "d", Attributes: attrs{"tar": "false"}},
					{Type: "image", Attributes: attrs{"name": "x", "push": "true"}}, {Type: "registry", Attributes: attrs{}},
				}
			}},
		{"load", []string{"--load"},
			func(o *options) {
				o.load, o.build.Outputs = true, []engine.Output{{Type: "docker", Attributes: attrs{}}}
			}},
		{"load said twice", []string{"--load", "-o", "type=docker", "-o", "type=oci,dest=x"},
			func(o *options) {
				o.load = true
				o.build.Outputs = []engine.Output{{Type: "docker", Attributes: attrs{}}, {Type: "oci", Destination: "x", Attributes: attrs{}}}
			}},
		{"load beside a file", []string{"--load", "-o", "type=docker,dest=x.tar"},
			func(o *options) {
				o.load = true
				o.build.Outputs = []engine.Output{{Type: "docker", Destination: "x.tar", Attributes: attrs{}}, {Type: "docker", Attributes: attrs{}}}
			}},
		{"no push", []string{"--push", "--push=false"}, func(o *options) { o.push = false }},
		{"platform", []string{"--platform", "linux/amd64,linux/arm64/v8", "--platform=linux/aarch64", "--platform=linux/arm/v7"},
			func(o *options) { o.build.Platforms = []string{"linux/amd64", "linux/arm64", "linux/arm/v7"} }},
		{"platform local", []string{"--platform=local"},
			func(o *options) { o.build.Platforms = []string{platforms.FormatAll(platforms.DefaultSpec())} }},
		{"progress", []string{"--progress=tty", "--progress", "rawjson", "--progress="}, func(o *options) { o.progress = "rawjson" }},
		{"progress none", []string{"--progress=none"}, func(o *options) { o.progress = "quiet" }},
		{"progress quiet", []string{"--progress=quiet"}, func(o *options) { o.progress, o.quiet = "quiet", true }},
		{"quiet", []string{"-q", "--progress=auto"}, func(o *options) { o.progress, o.quiet = "quiet", true }},
		{"secret", []string{"--secret", "id=a,src=f", "--secret=id=b,env=V", "--secret=type=file,id=c,source=g", "--secret", "type=env,id=d,src=W", "--secret=id=TOKEN", "--secret=id=EMPTY",
			"--secret=id=file", `--secret=id=e,"src=x,y"`, "--secret=id=a,src=h", "--secret="},
			func(o *options) {
				o.build.Secrets = []engine.Secret{{ID: "b", Env: "V"}, {ID: "c", File: "g"}, {ID: "d", Env: "W"}, {ID: "TOKEN", Env: "TOKEN"}, {ID: "EMPTY", Env: "EMPTY"},
					{ID: "file", File: "file"}, {ID: "e", File: "x,y"}, {ID: "a", File: "h"}}
			}},
		{"shm-size", []string{"--shm-size", "64m"}, func(o *options) { o.build.ShmSize = 64 << 20 }},
		{"ssh", []string{"--ssh", "default", "--ssh=id=a,b", "--ssh==c"},
			func(o *options) {
				o.build.SSH = []engine.SSHAgent{{ID: "default"}, {ID: "id", Paths: []string{"a", "b"}}, {ID: "default", Paths: []string{"c"}}}
			}},
		{"tag", []string{"-t", "a", "--tag=b:1", "-tc"}, func(o *options) { o.tags = []string{"a", "b:1", "c"} }},
		{"ulimit", []string{"--ulimit", "nofile=1024:2048", "--ulimit=core=-1", "--ulimit=nofile=5"},
			func(o *options) { o.build.Ulimits = []string{"core=-1:-1", "nofile=5:5"} }},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			expected := plain()
			c.want(expected)
			got, err := parseCommandLine(append([]string{"app"}, c.args...), environment(vars))
			if err != nil {
				t.Fatal(err)
			}
			compare(t, expected, got)
		})
	}
}

// What docker build takes on BuildKit without effect is not refused there.
func TestClassicOptionsThatBuildKitRefuses(t *testing.T) {
	t.Parallel()
	compare(t, []string(nil), parse(t, "app --compress --force-rm --rm=false", nil).build.Classic.Set())
	compare(t, []string{"--memory", "--squash"}, parse(t, "app -m 1g --squash --force-rm", nil).build.Classic.Set())
}
