package engine

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/docker/cli/cli/config/configfile"
	"github.com/docker/cli/cli/connhelper"
	"github.com/docker/cli/cli/connhelper/commandconn"
	dockercontext "github.com/docker/cli/cli/context/docker"
	"github.com/docker/cli/cli/context/store"
	dockerclient "github.com/docker/docker/client"
	dockerbuildkit "github.com/docker/docker/client/buildkit"
	"github.com/docker/go-connections/tlsconfig"
	bkclient "github.com/moby/buildkit/client"

	// Schemes of BUILDKIT_HOST beside unix and tcp.
	_ "github.com/moby/buildkit/client/connhelper/dockercontainer"
	_ "github.com/moby/buildkit/client/connhelper/kubepod"
	_ "github.com/moby/buildkit/client/connhelper/ssh"
)

// connectTimeout bounds how long an engine may take to answer the first
// question; a builder in a container may have to be booted for it.
const connectTimeout = 90 * time.Second

// Selection names the engine to use, as the environment and the options of
// docker and buildx do. The first that is set wins, in this order: Builder,
// Classic, the builder of docker buildx use, BuildKitHost, the Docker Engine.
type Selection struct {
	Builder      string // --builder or BUILDX_BUILDER
	Classic      bool   // DOCKER_BUILDKIT=0
	BuildKitHost string // BUILDKIT_HOST

	DockerHost       string // DOCKER_HOST
	DockerContext    string // DOCKER_CONTEXT
	DockerAPIVersion string // DOCKER_API_VERSION
	DockerTLSVerify  bool   // DOCKER_TLS_VERIFY
	DockerCertPath   string // DOCKER_CERT_PATH

	// Config is the docker CLI's configuration: credentials, contexts.
	Config       *configfile.ConfigFile
	ConfigDir    string // DOCKER_CONFIG, where contexts are kept
	BuildxConfig string // BUILDX_CONFIG, by default ConfigDir/buildx
}

// Engine is a connection to a build engine, with what it can do.
type Engine struct {
	// Name identifies the engine for people: what it is, its version where it
	// tells, and its address.
	Name string
	Capabilities

	selection Selection
	client    *bkclient.Client     // nil for the classic builder
	docker    *dockerclient.Client // nil without a Docker Engine
}

// UnreachableError says that an engine does not answer.
type UnreachableError struct {
	Engine string // its kind and address
	Err    error
}

func (e *UnreachableError) Error() string {
	return fmt.Sprintf("connect to %s: %v", e.Engine, e.Err)
}
func (e *UnreachableError) Unwrap() error { return e.Err }

// Connect finds the selected engine, asks it for what it can do, and fails
// with an UnreachableError when it does not answer.
func Connect(ctx context.Context, s Selection) (*Engine, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	builder := s.Builder
	if builder == "" && !s.Classic {
		builder = s.builderInUse()
	}
	if builder != "" {
		if host, ok := s.dockerContextOf(builder); ok {
			s.DockerHost, s.DockerContext = "", host
			return s.connectDocker(ctx)
		}
		return s.connectBuildx(ctx, builder)
	}
	if s.BuildKitHost != "" && !s.Classic {
		return s.connectBuildKit(ctx, "BuildKit at "+s.BuildKitHost, s.BuildKitHost)
	}
	return s.connectDocker(ctx)
}

// connectBuildKit connects to a BuildKit daemon.
func (s Selection) connectBuildKit(ctx context.Context, name, address string, opts ...bkclient.ClientOpt) (*Engine, error) {
	client, err := bkclient.New(context.WithoutCancel(ctx), address, opts...)
	if err != nil {
		return nil, &UnreachableError{name, err}
	}
	e := &Engine{Name: name, selection: s, client: client}
	if err := e.probe(ctx); err != nil {
		client.Close()
		return nil, &UnreachableError{name, err}
	}
	if info, err := client.Info(ctx); err == nil && info.BuildkitVersion.Version != "" {
		e.Name = strings.Replace(name, "BuildKit", "BuildKit "+strings.TrimPrefix(info.BuildkitVersion.Version, "v"), 1)
	}
	return e, nil
}

// connectBuildx connects to any builder of buildx, whatever its driver,
// through the interface that buildx has for it.
func (s Selection) connectBuildx(ctx context.Context, builder string) (*Engine, error) {
	command := []string{"docker", "buildx"}
	if _, err := exec.LookPath("docker"); err != nil {
		if _, err := exec.LookPath("buildx"); err != nil {
			return nil, &UnreachableError{"buildx builder " + builder, errors.New("neither docker nor buildx is on PATH")}
		}
		command = []string{"buildx"}
	}
	args := append(command[1:], "dial-stdio", "--progress", "quiet", "--builder", builder)
	dial := bkclient.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
		// The child gets a session of its own, so that a terminal's SIGINT
		// reaches this process only: the rescue still needs the connection.
		return commandconn.New(context.WithoutCancel(ctx), command[0], args...)
	})
	return s.connectBuildKit(ctx, "BuildKit of buildx builder "+builder, "", dial)
}

// connectDocker connects to a Docker Engine and uses the BuildKit inside it,
// or its classic builder.
func (s Selection) connectDocker(ctx context.Context) (*Engine, error) {
	docker, err := s.dockerClient()
	if err != nil {
		return nil, &UnreachableError{"Docker Engine", err}
	}
	name := "Docker Engine at " + docker.DaemonHost()
	version, err := docker.ServerVersion(ctx)
	if err != nil {
		docker.Close()
		return nil, &UnreachableError{name, err}
	}
	name = "Docker Engine " + version.Version + " at " + docker.DaemonHost()
	e := &Engine{selection: s, docker: docker}
	if !s.Classic {
		client, err := bkclient.New(context.WithoutCancel(ctx), "", dockerbuildkit.ClientOpts(docker)...)
		if err != nil {
			docker.Close()
			return nil, &UnreachableError{name, err}
		}
		e.client = client
		if err := e.probe(ctx); err == nil {
			e.Name = "BuildKit of " + name
			return e, nil
		}
		client.Close()
		if ctx.Err() != nil {
			docker.Close()
			return nil, &UnreachableError{name, context.Cause(ctx)}
		}
		// An engine without BuildKit.
		e.client, e.Capabilities = nil, Capabilities{}
	}
	e.Name = "classic builder of " + name
	return e, nil
}

// Close ends the connection.
func (e *Engine) Close() error {
	var errs []error
	if e.client != nil {
		errs = append(errs, e.client.Close())
	}
	if e.docker != nil {
		errs = append(errs, e.docker.Close())
	}
	return errors.Join(errs...)
}

// Start begins a build. Ending ctx cancels it; what was completed is kept
// until the build is closed.
func (e *Engine) Start(ctx context.Context, r Request) (Build, error) {
	switch {
	case !e.BuildKit:
		return started(e.startClassic(ctx, r))
	case !e.RegistryCache && e.docker != nil:
		return started(e.startInline(ctx, r))
	default:
		return started(e.startSolve(ctx, r))
	}
}

// started keeps a nil build a nil interface.
func started[B Build](b B, err error) (Build, error) {
	if err != nil {
		return nil, err
	}
	return b, nil
}

// builderInUse is the builder that docker buildx use has chosen, "" for none:
// the file "current" of buildx (docker/buildx store/store.go).
func (s Selection) builderInUse() string {
	raw, err := os.ReadFile(filepath.Join(s.buildxDir(), "current"))
	if err != nil {
		return ""
	}
	var current struct {
		Key, Name string
		Global    bool
	}
	if json.Unmarshal(raw, &current) != nil || current.Name == "default" {
		return ""
	}
	// A choice that is not global belongs to one docker endpoint.
	if !current.Global && s.DockerHost != "" && current.Key != s.DockerHost {
		return ""
	}
	return current.Name
}

// dockerContextOf tells whether a builder's name means a Docker Engine itself:
// buildx has one builder of the docker driver for every docker context, and
// keeps a file for all others.
func (s Selection) dockerContextOf(builder string) (contextName string, ok bool) {
	if builder == "default" {
		return "", true
	}
	if _, err := os.Stat(filepath.Join(s.buildxDir(), "instances", builder)); err == nil {
		return "", false
	}
	_, err := s.contexts().GetMetadata(builder)
	return builder, err == nil
}

func (s Selection) buildxDir() string {
	if s.BuildxConfig != "" {
		return s.BuildxConfig
	}
	return filepath.Join(s.ConfigDir, "buildx")
}

func (s Selection) contexts() *store.ContextStore {
	return store.New(filepath.Join(s.ConfigDir, "contexts"), store.NewConfig(
		func() any { return &map[string]any{} },
		store.EndpointTypeGetter(dockercontext.DockerEndpoint, func() any { return &dockercontext.EndpointMeta{} }),
	))
}

// dockerClient follows docker's own order: DOCKER_HOST, DOCKER_CONTEXT, the
// configuration's current context, the platform's default socket
// (docs.docker.com/engine/manage-resources/contexts).
func (s Selection) dockerClient() (*dockerclient.Client, error) {
	host, tlsConfig := s.DockerHost, (*tls.Config)(nil)
	name := s.DockerContext
	if name == "" && host == "" && s.Config != nil {
		name = s.Config.CurrentContext
	}
	switch {
	case host == "" && name != "" && name != "default":
		endpoint, err := s.contextEndpoint(name)
		if err != nil {
			return nil, err
		}
		host = endpoint.Host
		if tlsConfig, err = endpointTLS(endpoint); err != nil {
			return nil, err
		}
	case s.DockerTLSVerify || s.DockerCertPath != "":
		var err error
		tlsConfig, err = tlsconfig.Client(tlsconfig.Options{
			CAFile:             filepath.Join(s.DockerCertPath, "ca.pem"),
			CertFile:           filepath.Join(s.DockerCertPath, "cert.pem"),
			KeyFile:            filepath.Join(s.DockerCertPath, "key.pem"),
			InsecureSkipVerify: !s.DockerTLSVerify,
		})
		if err != nil {
			return nil, fmt.Errorf("read DOCKER_CERT_PATH: %w", err)
		}
	}
	opts := []dockerclient.Opt{dockerclient.WithAPIVersionNegotiation()}
	if s.DockerAPIVersion != "" {
		opts = append(opts, dockerclient.WithVersion(s.DockerAPIVersion))
	}
	if host != "" {
		helper, err := connhelper.GetConnectionHelper(host)
		if err != nil {
			return nil, err
		}
		if helper != nil {
			opts = append(opts, dockerclient.WithHost(helper.Host), dockerclient.WithDialContext(helper.Dialer))
			return dockerclient.NewClientWithOpts(opts...)
		}
	}
	if tlsConfig != nil {
		opts = append(opts, dockerclient.WithHTTPClient(&http.Client{
			Transport:     &http.Transport{TLSClientConfig: tlsConfig},
			CheckRedirect: dockerclient.CheckRedirect,
		}))
	}
	if host != "" {
		opts = append(opts, dockerclient.WithHost(host))
	}
	return dockerclient.NewClientWithOpts(opts...)
}

func (s Selection) contextEndpoint(name string) (dockercontext.Endpoint, error) {
	contexts := s.contexts()
	metadata, err := contexts.GetMetadata(name)
	if err != nil {
		return dockercontext.Endpoint{}, fmt.Errorf("read docker context %s: %w", name, err)
	}
	meta, err := dockercontext.EndpointFromContext(metadata)
	if err != nil {
		return dockercontext.Endpoint{}, fmt.Errorf("read docker context %s: %w", name, err)
	}
	return dockercontext.WithTLSData(contexts, name, meta)
}

func endpointTLS(endpoint dockercontext.Endpoint) (*tls.Config, error) {
	if endpoint.TLSData == nil && !endpoint.SkipTLSVerify {
		return nil, nil
	}
	config := tlsconfig.ClientDefault()
	config.InsecureSkipVerify = endpoint.SkipTLSVerify
	if endpoint.TLSData == nil {
		return config, nil
	}
	if len(endpoint.TLSData.CA) > 0 {
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(endpoint.TLSData.CA) {
			return nil, errors.New("ca.pem holds no certificate")
		}
	}
	if len(endpoint.TLSData.Cert) > 0 {
		pair, err := tls.X509KeyPair(endpoint.TLSData.Cert, endpoint.TLSData.Key)
		if err != nil {
			return nil, fmt.Errorf("read client certificate: %w", err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, nil
}
