package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/docker-build-remote-cache/docker-build-remote-cache/engine"
)

// dockerOptions are the options of docker build (docker/cli
// cli/command/image/build.go) and of docker buildx build (docker/buildx
// commands/build.go), with their spelling and meaning. What only another
// method than build knows is refused, never dropped.
func (p *parser) dockerOptions() []option {
	o, b := p.options, &p.options.build
	return []option{
		{name: "add-host", value: "NAME:IP", help: "Give the RUN steps a host name; NAME=IP and host-gateway too",
			form: "NAME:IP, NAME=IP or NAME:host-gateway",
			set:  skipEmpty(perField(parsed(parseHost, appendTo(&b.AddHosts))))},
		{name: "allow", value: "ENTITLEMENT", help: "Allow network.host, security.insecure or device",
			form: "network.host, security.insecure or device[=NAME]",
			set:  skipEmpty(parsed(parseEntitlement, appendTo(&b.Allow)))},
		{name: "annotation", value: "[TYPE:]KEY=VALUE", help: "Annotate the image; TYPE is manifest (default), index, manifest-descriptor or index-descriptor",
			form: "[TYPE[PLATFORM]:]KEY=VALUE",
			set: skipEmpty(parsed(parseAnnotations, func(as []engine.Annotation) {
				b.Annotations = append(b.Annotations, as...)
			}))},
		{name: "attest", value: "SPEC", help: "Attach an attestation: type=provenance or type=sbom, and its attributes",
			form: "type=provenance|sbom[,KEY=VALUE...]",
			set:  parsed(parseAttestation, appendTo(&p.attestations))},
		{name: "build-arg", value: "NAME[=VALUE]", help: "Set an ARG; without a value it comes from the environment",
			form: "NAME=VALUE, or NAME for the value of that variable",
			set:  p.setBuildArg},
		{name: "build-context", value: "NAME=VALUE", help: "Name another context: a directory, docker-image://REF or a URL",
			form: "NAME=PATH, NAME=docker-image://REF or NAME=URL",
			set: skipEmpty(parsed(parseBuildContext, func(c engine.KeyValue) {
				b.BuildContexts = setKey(b.BuildContexts, c)
			}))},
		{name: "builder", value: "NAME", help: "Builder of docker buildx to use", env: "BUILDX_BUILDER", set: text(&o.builder)},
		{name: "cache-from", value: "SPEC", help: "Read a further cache: an image, or type=... and its attributes",
			form: "IMAGE or type=registry|local|gha|s3|azblob[,KEY=VALUE...]",
			set:  skipEmpty(cacheSpecs(&b.CacheFrom, "registry", "local", "gha", "s3", "azblob"))},
		{name: "cache-to", value: "SPEC", help: "Write a further cache: an image, or type=... and its attributes",
			form: "IMAGE or type=registry|local|inline|gha|s3|azblob[,KEY=VALUE...]",
			set:  skipEmpty(cacheSpecs(&b.CacheTo, "registry", "local", "inline", "gha", "s3", "azblob"))},
		{name: "call", value: "METHOD", help: "Only build, the default, is supported", set: setCall},
		{name: "cgroup-parent", value: "NAME", help: "Parent cgroup of the RUN steps", set: text(&b.CgroupParent)},
		{name: "check", help: "Not supported", hidden: true, set: setCheck},
		{name: "compress", help: "Compress the context (classic builder)", set: toggle(&b.Classic.Compress)},
		{name: "cpu-period", value: "N", help: "CFS period (classic builder)", set: integer(&b.Classic.CPUPeriod)},
		{name: "cpu-quota", value: "N", help: "CFS quota (classic builder)", set: integer(&b.Classic.CPUQuota)},
		{name: "cpu-shares", short: "c", value: "N", help: "Relative CPU weight (classic builder)", set: integer(&b.Classic.CPUShares)},
		{name: "cpuset-cpus", value: "LIST", help: "CPUs to use, such as 0-3 (classic builder)", set: text(&b.Classic.CPUSetCPUs)},
		{name: "cpuset-mems", value: "LIST", help: "Memory nodes to use (classic builder)", set: text(&b.Classic.CPUSetMems)},
		{name: "debug", short: "D", help: "Accepted without effect", hidden: true, set: ignored},
		{name: "disable-content-trust", help: "Accepted without effect, as in docker build", hidden: true, set: ignored},
		{name: "file", short: "f", value: "FILE", help: "Dockerfile (default: PATH/Dockerfile); - reads standard input", set: text(&p.dockerfile)},
		{name: "force-rm", help: "Remove containers of failed steps too (classic builder)", set: toggle(&b.Classic.ForceRemove)},
		{name: "iidfile", value: "FILE", help: "Write the image ID to FILE", set: text(&o.iidFile)},
		{name: "isolation", value: "NAME", help: "Container isolation (classic builder)", set: text(&b.Classic.Isolation)},
		{name: "label", value: "KEY[=VALUE]", help: "Set a label of the image",
			form: "KEY=VALUE",
			set:  parsed(parseLabel, func(l engine.KeyValue) { b.Labels = setKey(b.Labels, l) })},
		{name: "load", help: "Put the image into the Docker Engine, as --output type=docker", set: toggle(&o.load)},
		{name: "memory", short: "m", value: "BYTES", help: "Memory limit, such as 2g (classic builder)", form: "a number of bytes, with b, k, m or g",
			set: parsed(parseSize, func(n int64) { b.Classic.Memory = n })},
		{name: "memory-swap", value: "BYTES", help: "Memory and swap together, -1 for no limit (classic builder)", form: "a number of bytes, with b, k, m or g, or -1",
			set: parsed(parseSwapSize, func(n int64) { b.Classic.MemorySwap = n })},
		{name: "metadata-file", value: "FILE", help: "Write the build's metadata to FILE as JSON", set: text(&o.metadataFile)},
		{name: "network", value: "MODE", help: "Network of the RUN steps: default, host or none", set: text(&b.Network)},
		{name: "no-cache", help: "Use no cache", set: toggle(&b.NoCache)},
		{name: "no-cache-filter", value: "STAGE", help: "Use no cache for these stages",
			set: skipEmpty(perField(parsed(verbatim, appendTo(&b.NoCacheFilter))))},
		{name: "output", short: "o", value: "DEST", help: "Export the result: a directory, - for a tar on standard output, or type=... and its attributes",
			form: "DIRECTORY, - or type=" + strings.Join(outputTypes, "|") + "[,KEY=VALUE...]",
			set:  skipEmpty(parsed(parseOutput, appendTo(&b.Outputs)))},
		{name: "platform", value: "LIST", help: "Platforms to build for, such as linux/amd64,linux/arm64", env: "DOCKER_DEFAULT_PLATFORM",
			form: "OS/ARCH[/VARIANT][,...]",
			set:  setPlatforms(&b.Platforms)},
		{name: "policy", value: "SPEC", help: "Not supported", hidden: true, set: unsupported("--policy", "leave it out, or build with docker buildx build")},
		{name: "print", value: "METHOD", help: "Not supported", hidden: true, set: unsupported("--print", "use docker buildx build --call")},
		{name: "progress", value: "MODE", help: "How progress is shown: auto, plain, tty, quiet, rawjson or none", env: "BUILDKIT_PROGRESS",
			form: "auto, plain, tty, quiet, rawjson or none",
			set:  skipEmpty(choice(&o.progress, "auto", "plain", "tty", "quiet", "rawjson", "none"))},
		{name: "provenance", value: "SPEC", help: "Shorthand for --attest type=provenance; false for none", form: "true, false or KEY=VALUE[,...]",
			set: skipEmpty(p.setShorthand("provenance", &p.provenance))},
		{name: "pull", help: "Ask the registry for newer base images", set: toggle(&b.Pull)},
		{name: "push", help: "Push NAME:TAG and every --tag after a success (default true)", set: toggle(&o.push)},
		{name: "quiet", short: "q", help: "Print the image ID only", set: toggle(&o.quiet)},
		{name: "resource", value: "KEY=VALUE", help: "Limit a RUN step: memory, cpu-quota, ... (classic builder)", form: "KEY=VALUE, KEY being " + orList(resourceKeys),
			set: p.setResource},
		{name: "rm", help: "Remove the containers of steps (default true; classic builder)",
			set: parsed(parseSwitch, func(remove bool) { b.Classic.KeepContainers = !remove })},
		{name: "sbom", value: "SPEC", help: "Shorthand for --attest type=sbom; false for none", form: "true, false or KEY=VALUE[,...]",
			set: skipEmpty(p.setShorthand("sbom", &p.sbom))},
		{name: "secret", value: "SPEC", help: "Give RUN steps a secret: id=NAME[,src=FILE|,env=VARIABLE]", form: "id=NAME[,src=FILE] or id=NAME[,env=VARIABLE]",
			set: skipEmpty(p.setSecret)},
		{name: "security-opt", value: "OPTION", help: "Security option (classic builder)",
			set: skipEmpty(perField(parsed(verbatim, appendTo(&b.Classic.SecurityOpts))))},
		{name: "shm-size", value: "BYTES", help: "Size of /dev/shm, such as 64m", form: "a number of bytes, with b, k, m or g",
			set: parsed(parseSize, func(n int64) { b.ShmSize = n })},
		{name: "squash", help: "Squash the new layers (classic builder, experimental)", set: toggle(&b.Classic.Squash)},
		{name: "ssh", value: "SPEC", help: "Give RUN steps an SSH agent or keys: default or ID[=PATH[,PATH...]]", form: "default or ID[=SOCKET|KEY[,KEY...]]",
			set: skipEmpty(parsed(parseSSH, appendTo(&b.SSH)))},
		{name: "stream", help: "Accepted without effect: BuildKit always streams the context", hidden: true, set: ignored},
		{name: "tag", short: "t", value: "NAME[:TAG]", help: "Give the image a further name", set: parsed(parseTag, appendTo(&o.tags))},
		{name: "target", value: "STAGE", help: "Stage to build (default: the last)", set: text(&b.Target)},
		{name: "ulimit", value: "SPEC", help: "Limit of the RUN steps, such as nofile=1024:2048", form: "NAME=SOFT[:HARD]", set: p.ulimits.Set},
	}
}

// setBuildArg takes a value that is not written from the environment; a
// variable that is not set there either makes no argument.
func (p *parser) setBuildArg(s string) error {
	name, value, written := strings.Cut(s, "=")
	if name == "" {
		return errNoName
	}
	if !written {
		var ok bool
		if value, ok = p.lookupEnv(name); !ok {
			return nil
		}
	}
	b := &p.options.build
	for i, arg := range b.BuildArgs {
		if arg.Name == name {
			b.BuildArgs[i].Value = value
			return nil
		}
	}
	b.BuildArgs = append(b.BuildArgs, engine.BuildArg{Name: name, Value: value})
	return nil
}

func (p *parser) setSecret(s string) error {
	secret, err := parseSecret(s, p.lookupEnv)
	if err != nil {
		return err
	}
	// As with buildx the last secret of an ID counts.
	b := &p.options.build
	b.Secrets = append(slices.DeleteFunc(b.Secrets, func(other engine.Secret) bool { return other.ID == secret.ID }), secret)
	return nil
}

// setShorthand takes --provenance or --sbom: a boolean, or the attributes of
// the attestation.
func (p *parser) setShorthand(kind string, into **attestation) func(string) error {
	return func(s string) error {
		spec := "type=" + kind + "," + s
		if on, err := parseSwitch(s); err == nil {
			spec = fmt.Sprintf("type=%s,disabled=%t", kind, !on)
		}
		a, err := parseAttestation(spec)
		if err != nil {
			return err
		}
		if a.Type != kind {
			return fmt.Errorf("the type is %s", kind)
		}
		*into = &a
		return nil
	}
}

// resourceKeys are the keys of --resource, each the name of an option too.
var resourceKeys = []string{"memory", "memory-swap", "cpu-shares", "cpu-period", "cpu-quota", "cpuset-cpus", "cpuset-mems"}

// setResource hands KEY=VALUE to the option called KEY.
func (p *parser) setResource(s string) error {
	key, value, ok := strings.Cut(s, "=")
	key, value = strings.TrimSpace(key), strings.TrimSpace(value)
	if !ok || !slices.Contains(resourceKeys, key) {
		return fmt.Errorf("%q names no resource", s)
	}
	for _, o := range p.dockerOptions() {
		if o.name == key {
			return o.set(value)
		}
	}
	return nil
}

func setPlatforms(into *[]string) func(string) error {
	return func(s string) error {
		for _, name := range strings.Split(s, ",") {
			platform, err := parsePlatform(name)
			if err != nil {
				return err
			}
			if !slices.Contains(*into, platform) {
				*into = append(*into, platform)
			}
		}
		return nil
	}
}

// setCall accepts the method build, with whatever format.
func setCall(s string) error {
	method, _, _ := strings.Cut(s, ",")
	if method == "" || method == "build" {
		return nil
	}
	return usagef("use docker buildx build --call "+method, "--call %s is not supported: this tool only builds", method)
}

func setCheck(s string) error {
	if on, err := parseSwitch(s); err != nil || !on {
		return err
	}
	return usagef("use docker buildx build --check", "--check is not supported: this tool only builds")
}

func unsupported(option, hint string) func(string) error {
	return func(string) error { return usagef(hint, "%s is not supported", option) }
}

// ignored takes a switch that changes nothing here.
func ignored(s string) error {
	_, err := parseSwitch(s)
	return err
}
