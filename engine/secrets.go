package engine

import (
	"context"
	"fmt"
	"strings"

	"github.com/docker-build-remote-cache/docker-build-remote-cache/stages"
	"github.com/moby/buildkit/session/secrets"
	"github.com/moby/buildkit/session/secrets/secretsprovider"
)

// secretStore answers a build's steps that ask for secrets: those of --secret,
// and those of the tool itself, which people cannot replace.
func secretStore(o Options) (secrets.SecretStore, error) {
	var sources []secretsprovider.Source
	for _, secret := range o.Secrets {
		sources = append(sources, secretsprovider.Source{ID: secret.ID, FilePath: secret.File, Env: secret.Env})
	}
	given, err := secretsprovider.NewStore(sources)
	if err != nil {
		return nil, fmt.Errorf("read --secret: %w", err)
	}
	own := map[string][]byte{}
	for _, value := range o.Values {
		if len(value.Value) > secretsprovider.MaxSecretSize {
			return nil, fmt.Errorf("the value of secret %s is larger than %d bytes", value.ID, secretsprovider.MaxSecretSize)
		}
		own[value.ID] = value.Value
	}
	return ownSecrets{own, o.Ask, given}, nil
}

type ownSecrets struct {
	own   map[string][]byte
	ask   func(ctx context.Context, id string) ([]byte, bool)
	given secrets.SecretStore
}

// GetSecret implements secrets.SecretStore. A secret of the tool that has no
// value is none: its mounts are optional.
func (s ownSecrets) GetSecret(ctx context.Context, id string) ([]byte, error) {
	if value, ok := s.own[id]; ok {
		return value, nil
	}
	if strings.HasPrefix(id, stages.ReservedPrefix) {
		if s.ask != nil {
			if value, ok := s.ask(ctx, id); ok {
				return value, nil
			}
		}
		return nil, fmt.Errorf("secret %s: %w", id, secrets.ErrNotFound)
	}
	return s.given.GetSecret(ctx, id)
}
