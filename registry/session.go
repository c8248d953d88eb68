package registry

import (
	"context"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"golang.org/x/sync/singleflight"
)

// session is a finished handshake with a registry: the right to do one kind
// of thing in one repository.
type session struct {
	// transport adds the credentials to requests.
	transport http.RoundTripper
	options   []remote.Option
	puller    *remote.Puller
}

// pusher is new for each use: a Pusher never again uploads what it has seen
// in the registry once, and what is seen may be deleted while a build runs.
func (s *session) pusher() (*remote.Pusher, error) { return remote.NewPusher(s.options...) }

// sessions makes each handshake once, however many operations want it at the
// same time. It ends by its own timeout and not with the context of whichever
// operation came first, since the others wait for it too; each stops waiting
// with its own context.
type sessions struct {
	transport *retrying
	userAgent string
	keychain  authn.Keychain
	timeout   time.Duration

	handshakes singleflight.Group
	done       sync.Map // string -> *session
}

// get takes the session for an action: one of the scopes of package
// transport.
func (s *sessions) get(ctx context.Context, repository name.Repository, action string) (*session, error) {
	scope := repository.Scope(action)
	key := repository.RegistryStr() + " " + scope
	if done, ok := s.done.Load(key); ok {
		return done.(*session), nil
	}
	result := s.handshakes.DoChan(key, func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.timeout)
		defer cancel()
		made, err := s.handshake(ctx, repository, scope)
		if err == nil {
			s.done.Store(key, made)
		}
		return made, err
	})
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case r := <-result:
		if r.Err != nil {
			return nil, r.Err
		}
		return r.Val.(*session), nil
	}
}

func (s *sessions) handshake(ctx context.Context, repository name.Repository, scope string) (*session, error) {
	credentials := authn.Anonymous
	if s.keychain != nil {
		found, err := authn.Resolve(ctx, s.keychain, repository)
		if err != nil {
			return nil, &credentialError{err}
		}
		credentials = found
	}
	authorized, err := transport.NewWithContext(ctx, repository.Registry, credentials,
		transport.NewUserAgent(s.transport, s.userAgent), []string{scope})
	if err != nil {
		return nil, err
	}
	options := []remote.Option{
		remote.WithTransport(authorized),
		remote.WithJobs(maxConcurrentBlobs),
		// All sending again is done by retrying, or the attempts of both
		// would multiply.
		remote.WithRetryBackoff(remote.Backoff{Steps: 1}),
		remote.WithRetryPredicate(func(error) bool { return false }),
	}
	puller, err := remote.NewPuller(options...)
	if err != nil {
		return nil, err
	}
	return &session{transport: authorized, options: options, puller: puller}, nil
}

// maxConcurrentBlobs bounds how many blobs of a repository are read at once,
// which bounds the memory that hostile ones can take.
const maxConcurrentBlobs = 16

// remoteName is a repository in the terms of go-containerregistry. Plain http
// is for hosts that were named insecure, and those it knows to be local.
func remoteName(repository Repository, insecureHosts []string) (name.Repository, error) {
	var options []name.Option
	if slices.Contains(insecureHosts, repository.host) {
		options = append(options, name.Insecure)
	}
	return name.NewRepository(repository.String(), options...)
}
