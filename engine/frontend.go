package engine

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/docker/cli/cli/config/configfile"
	bkclient "github.com/moby/buildkit/client"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/session/auth/authprovider"
	"github.com/moby/buildkit/session/secrets/secretsprovider"
	"github.com/moby/buildkit/session/sshforward/sshprovider"
	"github.com/moby/buildkit/util/staticfs"
	"github.com/opencontainers/go-digest"
	"github.com/tonistiigi/fsutil"
	fstypes "github.com/tonistiigi/fsutil/types"
)

// Names that BuildKit's Dockerfile frontend gives to what the client sends.
const (
	contextMount    = "context"
	dockerfileMount = "dockerfile"
	dockerfileName  = "Dockerfile"
)

// hostGateway is the word that a Docker Engine replaces by the address of its
// host; a standalone BuildKit daemon does not know one.
const hostGateway = "host-gateway"

// frontendAttributes are the options as BuildKit's Dockerfile frontend takes
// them (moby/buildkit frontend/dockerui/config.go).
func frontendAttributes(o Options, embedded bool) (map[string]string, error) {
	if set := o.Classic.Set(); len(set) > 0 {
		return nil, &UnsupportedError{Option: strings.Join(set, ", "), Engine: "BuildKit", Remedy: "leave it out, or use the classic builder with DOCKER_BUILDKIT=0"}
	}
	attrs := map[string]string{"filename": dockerfileName}
	for _, arg := range o.BuildArgs {
		attrs["build-arg:"+arg.Name] = arg.Value
	}
	for _, label := range o.Labels {
		attrs["label:"+label.Key] = label.Value
	}
	for _, attestation := range o.Attestations {
		attrs["attest:"+attestation.Type] = attestation.Attributes
	}
	for _, named := range o.BuildContexts {
		value, _, err := namedContext(named)
		if err != nil {
			return nil, err
		}
		attrs["context:"+named.Key] = value
	}
	if len(o.Platforms) > 0 {
		attrs["platform"] = strings.Join(o.Platforms, ",")
	}
	switch {
	case o.NoCache:
		attrs["no-cache"] = ""
	case len(o.NoCacheFilter) > 0:
		attrs["no-cache"] = strings.Join(o.NoCacheFilter, ",")
	}
	if o.Pull {
		attrs["image-resolve-mode"] = "pull"
	}
	switch o.Network {
	case "", "default":
	case "host", "none":
		attrs["force-network-mode"] = o.Network
	default:
		return nil, &UnsupportedError{Option: "--network " + o.Network, Engine: "BuildKit", Remedy: "use default, host or none"}
	}
	var hosts []string
	for _, host := range o.AddHosts {
		if host.Address == hostGateway && !embedded {
			return nil, &UnsupportedError{Option: "--add-host " + host.Name + ":" + hostGateway, Engine: "a standalone BuildKit daemon", Remedy: "give the address itself"}
		}
		hosts = append(hosts, host.Name+"="+host.Address)
	}
	if len(hosts) > 0 {
		attrs["add-hosts"] = strings.Join(hosts, ",")
	}
	if o.ShmSize > 0 {
		attrs["shm-size"] = strconv.FormatInt(o.ShmSize, 10)
	}
	if len(o.Ulimits) > 0 {
		attrs["ulimit"] = strings.Join(o.Ulimits, ",")
	}
	if o.CgroupParent != "" {
		attrs["cgroup-parent"] = o.CgroupParent
	}
	return attrs, nil
}

// entitlements are those given, and the one that --network host stands for, as
// with buildx.
func entitlements(o Options) []string {
	allowed := slices.Clone(o.Allow)
	if o.Network == "host" && !slices.Contains(allowed, "network.host") {
		allowed = append(allowed, "network.host")
	}
	return allowed
}

// namedContext is a --build-context as the frontend takes it, and the local
// directory to send along, "" for none.
func namedContext(named KeyValue) (value, directory string, err error) {
	if scheme, _, ok := strings.Cut(named.Value, "://"); ok {
		switch scheme {
		case "docker-image", "https", "http", "git", "ssh":
			return named.Value, "", nil
		}
		return "", "", &UnsupportedError{Option: "--build-context " + named.Key + "=" + scheme + "://", Engine: "this tool", Remedy: "use a directory, docker-image:// or a URL"}
	}
	if strings.HasPrefix(named.Value, "target:") || strings.HasPrefix(named.Value, "git@") {
		return named.Value, "", nil
	}
	if info, err := os.Stat(named.Value); err != nil || !info.IsDir() {
		return "", "", fmt.Errorf("--build-context %s: %s is no directory", named.Key, named.Value)
	}
	return "local:" + named.Key, named.Value, nil
}

// sender holds what a build session serves to the daemon. Every solve gets a
// session of its own out of it, since a session ends with its solve.
type sender struct {
	options Options
	docker  *configfile.ConfigFile
	attrs   map[string]string
	ignore  []byte // the Dockerfile's own ignore file
}

func newSender(o Options, targetStage string, embedded bool, docker *configfile.ConfigFile) (*sender, error) {
	attrs, err := frontendAttributes(o, embedded)
	if err != nil {
		return nil, err
	}
	if targetStage != "" {
		attrs["build-arg:TARGETSTAGE"] = targetStage
	}
	s := &sender{options: o, docker: docker, attrs: attrs}
	// A Dockerfile-specific ignore file wins over the context's:
	// docs.docker.com/build/concepts/context/#filename-and-location
	s.ignore, err = readIgnoreFile(o.Dockerfile + ignoreName)
	return s, err
}

const (
	ignoreName    = ".dockerignore"
	maxIgnoreFile = 1 << 20 // bytes
)

// readIgnoreFile reads a file in the form of .dockerignore; nil if there is none.
func readIgnoreFile(path string) ([]byte, error) {
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the ignore file: %w", err)
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, maxIgnoreFile+1))
	if err == nil && len(text) > maxIgnoreFile {
		err = fmt.Errorf("%s is larger than %d bytes", path, maxIgnoreFile)
	}
	if err != nil {
		return nil, fmt.Errorf("read the ignore file: %w", err)
	}
	return text, nil
}

// solveOpt is a fresh session with everything a build of dockerfile may ask
// for.
func (s *sender) solveOpt(dockerfile []byte) (bkclient.SolveOpt, error) {
	opt, err := s.localsOpt(dockerfile)
	if err != nil {
		return opt, err
	}
	opt.Session, err = s.attachables()
	return opt, err
}

// localsOpt is a session with the local directories alone.
func (s *sender) localsOpt(dockerfile []byte) (bkclient.SolveOpt, error) {
	opt := bkclient.SolveOpt{
		FrontendAttrs:       maps.Clone(s.attrs),
		LocalMounts:         map[string]fsutil.FS{},
		AllowedEntitlements: entitlements(s.options),
		SharedKey:           digest.FromString(s.options.Context).Encoded(),
	}
	opt.LocalMounts[dockerfileMount] = s.dockerfileFiles(dockerfile)
	var err error
	if opt.LocalMounts[contextMount], err = contextFiles(s.options.Context); err != nil {
		return opt, err
	}
	for _, named := range s.options.BuildContexts {
		_, dir, err := namedContext(named)
		if err != nil {
			return opt, err
		}
		if dir == "" {
			continue
		}
		if opt.LocalMounts[named.Key], err = contextFiles(dir); err != nil {
			return opt, err
		}
	}
	return opt, nil
}

// dockerfileFiles is a directory with the Dockerfile and its ignore file, in
// memory: that text may be rewritten or come from standard input, and nothing
// of it is left behind when the process is killed.
func (s *sender) dockerfileFiles(dockerfile []byte) fsutil.FS {
	files := staticfs.NewFS()
	add := func(name string, content []byte) {
		// A daemon that has a file of this size and time would not ask for its
		// content.
		files.Add(name, &fstypes.Stat{Mode: 0o600, ModTime: time.Now().UnixNano()}, content)
	}
	add(dockerfileName, dockerfile)
	if s.ignore != nil {
		add(dockerfileName+ignoreName, s.ignore)
	}
	return files
}

func (s *sender) attachables() ([]session.Attachable, error) {
	attached := []session.Attachable{authprovider.NewDockerAuthProvider(authprovider.DockerAuthProviderConfig{
		AuthConfigProvider: authprovider.LoadAuthConfig(s.docker),
	})}
	secrets, err := secretStore(s.options)
	if err != nil {
		return nil, err
	}
	attached = append(attached, secretsprovider.NewSecretProvider(secrets))
	if len(s.options.SSH) > 0 {
		var agents []sshprovider.AgentConfig
		for _, agent := range s.options.SSH {
			agents = append(agents, sshprovider.AgentConfig{ID: agent.ID, Paths: agent.Paths})
		}
		provider, err := sshprovider.NewSSHAgentProvider(agents)
		if err != nil {
			return nil, fmt.Errorf("open --ssh: %w", err)
		}
		attached = append(attached, provider)
	}
	return attached, nil
}

// contextFiles is a directory as it is sent: without group and world write
// bits, which depend on the umask of whoever checked it out, are not kept by
// git, and would make every COPY miss (a file's mode is part of its cache
// key), and owned by root as docker build sends it. No directory is an empty
// one.
func contextFiles(dir string) (fsutil.FS, error) {
	if dir == "" {
		return staticfs.NewFS(), nil
	}
	files, err := fsutil.NewFS(dir)
	if err != nil {
		return nil, fmt.Errorf("read build context: %w", err)
	}
	return fsutil.NewFilterFS(files, &fsutil.FilterOpt{
		Map: func(_ string, stat *fstypes.Stat) fsutil.MapResult {
			stat.Uid, stat.Gid = 0, 0
			if os.FileMode(stat.Mode)&os.ModeSymlink == 0 {
				stat.Mode &^= 0o022
			}
			return fsutil.MapResultKeep
		},
	})
}
