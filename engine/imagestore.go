package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/docker/cli/cli/config/configfile"
	"github.com/docker/cli/cli/config/types"
	"github.com/docker/docker/api/types/image"
	dockerregistry "github.com/docker/docker/api/types/registry"
	dockerclient "github.com/docker/docker/client"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const (
	// pullTimeout bounds the pull of one image that only serves as a cache.
	pullTimeout = 15 * time.Minute
	// cleanTimeout bounds what Close does in the store.
	cleanTimeout = 20 * time.Second
)

// imageStore is the image store of a Docker Engine. Such an engine pushes by
// name alone, so images get names for that, which clean takes away again.
type imageStore struct {
	docker *dockerclient.Client
	config *configfile.ConfigFile

	mu    sync.Mutex
	names []string // temporary ones, in the order of their making
}

// pushTemporarily pushes an image under a name that it keeps until clean.
func (s *imageStore) pushTemporarily(ctx context.Context, id, name string) (ocispec.Descriptor, error) {
	s.mu.Lock()
	if !slices.Contains(s.names, name) {
		s.names = append(s.names, name)
	}
	s.mu.Unlock()
	return s.pushAs(ctx, id, name)
}

// pushAs names an image and pushes that name. The descriptor is that of the
// registry, asked for by digest: the engine's answer lacks the media type, and
// another build may have moved the name.
func (s *imageStore) pushAs(ctx context.Context, id, name string) (desc ocispec.Descriptor, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("push %s: %w", name, err)
		}
	}()
	named, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return desc, err
	}
	auth, err := s.auth(named)
	if err != nil {
		return desc, err
	}
	if err := s.docker.ImageTag(ctx, id, name); err != nil {
		return desc, err
	}
	inspected, err := s.docker.ImageInspect(ctx, id)
	if err != nil {
		return desc, err
	}
	pushed, err := s.push(ctx, name, auth)
	if err != nil {
		return desc, err
	}
	if pushed == "" && inspected.Descriptor != nil { // of the containerd image store
		pushed = inspected.Descriptor.Digest
	}
	if err := pushed.Validate(); err != nil {
		return desc, fmt.Errorf("read the engine's answer: %w", err)
	}
	canonical, err := reference.WithDigest(reference.TrimNamed(named), pushed)
	if err != nil {
		return desc, err
	}
	found, err := s.docker.DistributionInspect(ctx, canonical.String(), auth)
	if err != nil {
		return desc, fmt.Errorf("look up what was pushed: %w", err)
	}
	return ocispec.Descriptor{
		MediaType: found.Descriptor.MediaType, Digest: pushed, Size: found.Descriptor.Size,
		Platform: &ocispec.Platform{
			OS: inspected.Os, Architecture: inspected.Architecture,
			Variant: inspected.Variant, OSVersion: inspected.OsVersion,
		},
	}, nil
}

// push pushes a name. The digest is "" from engines that do not tell it.
func (s *imageStore) push(ctx context.Context, name, auth string) (digest.Digest, error) {
	stream, err := s.docker.ImagePush(ctx, name, image.PushOptions{RegistryAuth: auth})
	if err != nil {
		return "", err
	}
	defer stream.Close()
	var pushed struct{ Digest digest.Digest }
	err = readMessages(stream, func(m dockerMessage) {
		if len(m.Aux) > 0 {
			_ = json.Unmarshal(m.Aux, &pushed) // another kind of message has no digest
		}
	})
	return pushed.Digest, err
}

// pull brings an image into the store.
func (s *imageStore) pull(ctx context.Context, name, platform string) error {
	ctx, cancel := context.WithTimeout(ctx, pullTimeout)
	defer cancel()
	named, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return err
	}
	auth, err := s.auth(named)
	if err != nil {
		return err
	}
	stream, err := s.docker.ImagePull(ctx, name, image.PullOptions{RegistryAuth: auth, Platform: platform})
	if err != nil {
		return err
	}
	defer stream.Close()
	return readMessages(stream, func(dockerMessage) {})
}

// auth is the credentials for a name's registry, as the engine takes them.
func (s *imageStore) auth(named reference.Named) (string, error) {
	if s.config == nil {
		return "", nil
	}
	host := reference.Domain(named)
	if host == "docker.io" {
		host = dockerHubAuthKey
	}
	found, err := s.config.GetAuthConfig(host)
	if err != nil {
		return "", fmt.Errorf("read the credentials for %s: %w", host, err)
	}
	return dockerregistry.EncodeAuthConfig(authConfig(found))
}

// dockerHubAuthKey is under what name docker login keeps Docker Hub's
// credentials.
const dockerHubAuthKey = "https://index.docker.io/v1/"

// authConfig is the configuration's credentials in the API's type.
func authConfig(found types.AuthConfig) dockerregistry.AuthConfig {
	return dockerregistry.AuthConfig{
		Username: found.Username, Password: found.Password, Auth: found.Auth, ServerAddress: found.ServerAddress,
		IdentityToken: found.IdentityToken, RegistryToken: found.RegistryToken,
	}
}

// allAuths is what the engine may need to pull base images in a build. Which
// it needs is not known: as with docker build, credentials that cannot be read
// are left out.
func (s *imageStore) allAuths() map[string]dockerregistry.AuthConfig {
	all := map[string]dockerregistry.AuthConfig{}
	if s.config == nil {
		return all
	}
	found, _ := s.config.GetAllCredentials()
	for host, auth := range found {
		all[host] = authConfig(auth)
	}
	return all
}

// errNotBuilt says that there is no finished image.
var errNotBuilt = errors.New("deliver image: the build has not succeeded")

// deliver gives the finished image its names, and pushes them. The digest is
// "" when nothing was pushed; an error is a *DeliveryError.
func (s *imageStore) deliver(ctx context.Context, id string, d Delivery) (Delivered, error) {
	names := slices.Clone(d.Names)
	for _, output := range d.Outputs {
		if toEngine(output) && output.Attributes["name"] != "" {
			names = append(names, strings.Split(output.Attributes["name"], ",")...)
		}
	}
	delivered := Delivered{ImageID: id, Metadata: map[string]string{"containerimage.config.digest": id}}
	for _, name := range names {
		if err := s.docker.ImageTag(ctx, id, name); err != nil {
			return Delivered{}, &DeliveryError{fmt.Errorf("tag image as %s: %w", name, err)}
		}
	}
	if len(names) > 0 {
		delivered.Metadata["image.name"] = strings.Join(names, ",")
	}
	if !d.Push {
		return delivered, nil
	}
	for _, name := range d.Names {
		desc, err := s.pushAs(ctx, id, name)
		if err != nil {
			return Delivered{}, &DeliveryError{err}
		}
		delivered.Digest = desc.Digest.String()
		delivered.Metadata["containerimage.digest"] = delivered.Digest
	}
	return delivered, nil
}

// clean takes the temporary names away. Untagging an image's last name deletes
// it, and with it the last step that a later build on this engine would find
// cached: keeper, the name of an image that stays, gets each name first, so
// that the images remain, without a name. "" lets them go.
func (s *imageStore) clean(keeper string) error {
	ctx, cancel := context.WithTimeout(context.Background(), cleanTimeout)
	defer cancel()
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for _, name := range s.names {
		if keeper != "" {
			if err := s.docker.ImageTag(ctx, keeper, name); err != nil {
				errs = append(errs, fmt.Errorf("tag image as %s: %w", name, err))
				continue
			}
		}
		if _, err := s.docker.ImageRemove(ctx, name, image.RemoveOptions{}); err != nil && !cerrdefs.IsNotFound(err) {
			errs = append(errs, fmt.Errorf("untag %s: %w", name, err))
		}
	}
	s.names = nil
	return errors.Join(errs...)
}

// removeNameless deletes an image that has no name.
func (s *imageStore) removeNameless(id string) error {
	ctx, cancel := context.WithTimeout(context.Background(), cleanTimeout)
	defer cancel()
	inspected, err := s.docker.ImageInspect(ctx, id)
	if err == nil && len(inspected.RepoTags)+len(inspected.RepoDigests) == 0 {
		_, err = s.docker.ImageRemove(ctx, id, image.RemoveOptions{})
	}
	if err != nil && !cerrdefs.IsNotFound(err) && !cerrdefs.IsConflict(err) {
		return fmt.Errorf("remove image %s: %w", id, err)
	}
	return nil
}

// toEngine tells whether an output is the engine's own image store, where
// such an engine puts its images anyway.
func toEngine(o Output) bool { return o.Type == "docker" && o.Destination == "" }

// stagingName is the name under which a stage's image is pushed, to be
// referred to by digest: the same at every run, so that such names do not pile
// up in the registry.
func stagingName(r Request, stage int, repository string) string {
	key := digest.FromString(r.Staging + "\x00" + r.File.Stages[stage].Target())
	return repository + ":cache-staging-" + key.Encoded()[:16]
}

// dockerMessage is one message of the JSON streams in which a Docker Engine
// answers.
type dockerMessage struct {
	Stream   string          `json:"stream"`
	Status   string          `json:"status"`
	ID       string          `json:"id"`
	Progress json.RawMessage `json:"progressDetail"`
	Error    string          `json:"error"`
	Aux      json.RawMessage `json:"aux"`
}

// readMessages reads such a stream to its end. The error may be one that the
// stream holds: those come under a status of 200.
func readMessages(stream io.Reader, each func(dockerMessage)) error {
	for decoder := json.NewDecoder(stream); ; {
		var message dockerMessage
		switch err := decoder.Decode(&message); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("read the engine's answer: %w", err)
		case message.Error != "":
			return errors.New(message.Error)
		}
		each(message)
	}
}
