package main

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/docker/cli/opts"
	"github.com/moby/buildkit/util/entitlements"
	"github.com/tonistiigi/go-csvvalue"

	"github.com/docker-build-remote-cache/docker-build-remote-cache/engine"
)

// The parsers below read the values of docker's options as docker/buildx
// util/buildflags does, which is not imported itself for its dependencies
// (OPA, sigstore). Where it takes a key in any case, so do they. Their errors
// name keys, and values only of options that hold no credentials.

var (
	errNoName   = errors.New("the name before = is missing")
	errKeyValue = errors.New("a field is not KEY=VALUE")
)

func parseSwitch(s string) (bool, error) {
	var on bool
	err := toggle(&on)(s)
	return on, err
}

func parseTag(s string) (string, error) {
	if s == "" {
		return "", errors.New("the name is empty")
	}
	return s, nil
}

func parseHost(s string) (engine.Host, error) {
	normal, err := opts.ValidateExtraHost(s)
	if err != nil {
		return engine.Host{}, err
	}
	name, address, _ := strings.Cut(normal, ":")
	return engine.Host{Name: name, Address: address}, nil
}

// parseEntitlement refuses buildx.local.delete, which buildx takes here for
// --output type=local,mode=delete: parseOutput refuses that.
func parseEntitlement(s string) (string, error) {
	if _, _, err := entitlements.Parse(s); err != nil {
		return "", err
	}
	return s, nil
}

func parseLabel(s string) (engine.KeyValue, error) {
	key, value, _ := strings.Cut(s, "=")
	if key == "" {
		return engine.KeyValue{}, errNoName
	}
	return engine.KeyValue{Key: key, Value: value}, nil
}

// parseBuildContext brings the name to the form in which FROM and COPY --from
// are looked up: docker.io/library/alpine:latest is alpine.
func parseBuildContext(s string) (engine.KeyValue, error) {
	name, value, ok := strings.Cut(s, "=")
	if !ok || value == "" {
		return engine.KeyValue{}, errors.New("the value after = is missing")
	}
	named, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return engine.KeyValue{}, fmt.Errorf("name %q: %w", name, err)
	}
	return engine.KeyValue{Key: strings.TrimSuffix(reference.FamiliarString(named), ":latest"), Value: value}, nil
}

// setKey sets a key where it stands, or adds it at the end.
func setKey(in []engine.KeyValue, kv engine.KeyValue) []engine.KeyValue {
	for i := range in {
		if in[i].Key == kv.Key {
			in[i].Value = kv.Value
			return in
		}
	}
	return append(in, kv)
}

// parsePlatform normalises a platform: linux/arm64/v8 is linux/arm64, and
// local that of this machine.
func parsePlatform(s string) (string, error) {
	if s == "" {
		return "", errors.New("a platform is empty")
	}
	if strings.EqualFold(s, "local") {
		return platforms.FormatAll(platforms.DefaultSpec()), nil
	}
	p, err := platforms.Parse(s)
	if err != nil {
		return "", err
	}
	return platforms.FormatAll(platforms.Normalize(p)), nil
}

func parseSize(s string) (int64, error) {
	var size opts.MemBytes
	if err := size.Set(s); err != nil {
		return 0, err
	}
	if size < 0 { // more than an int64 holds
		return 0, fmt.Errorf("%q is too large", s)
	}
	return size.Value(), nil
}

func parseSwapSize(s string) (int64, error) {
	if s == "-1" {
		return -1, nil
	}
	return parseSize(s)
}

// attributes reads KEY=VALUE[,KEY=VALUE...] in CSV quoting, keys in order as
// written and in lower case.
func attributes(s string) ([]engine.KeyValue, error) {
	fields, err := csvvalue.Fields(s, nil)
	if err != nil {
		return nil, fmt.Errorf("read comma-separated values: %w", err)
	}
	var all []engine.KeyValue
	for _, field := range fields {
		key, value, ok := strings.Cut(field, "=")
		if !ok {
			return nil, errKeyValue
		}
		all = append(all, engine.KeyValue{Key: strings.ToLower(strings.TrimSpace(key)), Value: value})
	}
	return all, nil
}

func checkType(kind string, known ...string) error {
	switch {
	case kind == "":
		return errors.New("type is missing")
	case !slices.Contains(known, kind):
		return fmt.Errorf("type %q is not %s", kind, orList(known))
	}
	return nil
}

// parseSecret reads one --secret. Without src and env, the ID names the
// variable, if there is one, else the file (moby/buildkit
// session/secrets/secretsprovider).
func parseSecret(s string, lookupEnv func(string) (string, bool)) (engine.Secret, error) {
	fields, err := attributes(s)
	if err != nil {
		return engine.Secret{}, err
	}
	var secret engine.Secret
	var kind string
	for _, field := range fields {
		switch field.Key {
		case "type":
			if err := checkType(field.Value, "file", "env"); err != nil {
				return engine.Secret{}, err
			}
			kind = field.Value
		case "id":
			secret.ID = field.Value
		case "src", "source":
			secret.File = field.Value
		case "env":
			secret.Env = field.Value
		default:
			return engine.Secret{}, fmt.Errorf("key %q is not id, src, env or type", field.Key)
		}
	}
	if secret.ID == "" {
		return engine.Secret{}, errors.New("id is missing")
	}
	if kind == "env" && secret.Env == "" {
		secret.Env, secret.File = secret.File, ""
	}
	if secret.Env != "" && secret.File != "" {
		return engine.Secret{}, errors.New("src and env exclude each other")
	}
	if secret.Env == "" && secret.File == "" {
		if _, ok := lookupEnv(secret.ID); ok {
			secret.Env = secret.ID
		} else {
			secret.File = secret.ID
		}
	}
	return secret, nil
}

// parseSSH reads default, or ID[=PATH[,PATH...]].
func parseSSH(s string) (engine.SSHAgent, error) {
	id, paths, ok := strings.Cut(s, "=")
	agent := engine.SSHAgent{ID: id}
	if id == "" {
		agent.ID = "default"
	}
	if ok {
		agent.Paths = strings.Split(paths, ",")
	}
	if slices.Contains(agent.Paths, "") {
		return engine.SSHAgent{}, errors.New("a path is empty")
	}
	return agent, nil
}

// cacheSpecs reads --cache-from or --cache-to: images, which are of type
// registry, or one cache of a type.
func cacheSpecs(into *[]engine.CacheSpec, types ...string) func(string) error {
	registry := func(image string) error {
		*into = append(*into, engine.CacheSpec{Type: "registry", Attributes: map[string]string{"ref": image}})
		return nil
	}
	return func(s string) error {
		if !strings.Contains(s, "=") {
			return perField(skipEmpty(registry))(s)
		}
		fields, err := attributes(s)
		if err != nil {
			return err
		}
		spec := engine.CacheSpec{Attributes: map[string]string{}}
		for _, field := range fields {
			if field.Key == "type" {
				spec.Type = field.Value
				continue
			}
			spec.Attributes[field.Key] = field.Value
		}
		if err := checkType(spec.Type, types...); err != nil {
			return err
		}
		if spec.Type == "registry" && spec.Attributes["ref"] == "" {
			return errors.New("ref is missing")
		}
		*into = append(*into, spec)
		return nil
	}
}

// outputTypes are BuildKit's exporters and what buildx adds to them.
var outputTypes = []string{"local", "tar", "oci", "docker", "image", "registry", "cacheonly"}

// parseOutput reads a directory, - for a tar on standard output, or a
// specification with a type.
func parseOutput(s string) (engine.Output, error) {
	if s == "-" {
		return engine.Output{Type: "tar", Destination: "-", Attributes: map[string]string{}}, nil
	}
	if plain, err := csvvalue.Fields(s, nil); err == nil && len(plain) == 1 && plain[0] == s && !strings.HasPrefix(s, "type=") {
		return engine.Output{Type: "local", Destination: s, Attributes: map[string]string{}}, nil
	}
	fields, err := attributes(s)
	if err != nil {
		return engine.Output{}, err
	}
	out := engine.Output{Attributes: map[string]string{}}
	for _, field := range fields {
		switch field.Key {
		case "type":
			out.Type = field.Value
		case "dest":
			out.Destination = field.Value
		default:
			out.Attributes[field.Key] = field.Value
		}
	}
	return checkedOutput(out)
}

// checkedOutput checks the destination against the type and fills in the
// default, standard output for tar and oci (docker/buildx build/opt.go).
func checkedOutput(out engine.Output) (engine.Output, error) {
	if err := checkType(out.Type, outputTypes...); err != nil {
		return engine.Output{}, err
	}
	directory := out.Type == "local"
	if out.Type == "oci" || out.Type == "docker" {
		tar, err := strconv.ParseBool(out.Attributes["tar"])
		directory = err == nil && !tar
	}
	switch {
	case directory && out.Destination == "":
		return engine.Output{}, fmt.Errorf("type %s needs dest=DIRECTORY", out.Type)
	case directory && out.Destination == "-":
		return engine.Output{}, fmt.Errorf("a directory of type %s cannot go to standard output", out.Type)
	case !directory && out.Destination == "" && (out.Type == "tar" || out.Type == "oci"):
		out.Destination = "-"
	}
	if out.Type == "local" && out.Attributes["mode"] == "delete" {
		return engine.Output{}, errors.New("mode=delete is not supported")
	}
	return out, nil
}
