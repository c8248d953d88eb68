package registry

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// uploadAttempts is how often an upload that broke off is begun anew.
const uploadAttempts = 3

// PutBlob uploads a blob unless the repository holds it, and describes it. An
// upload that breaks in the middle is begun anew a few times, since its parts
// cannot be sent again.
func (c *Client) PutBlob(ctx context.Context, repository Repository, blob []byte, mediaType string) (ocispec.Descriptor, error) {
	written := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(blob), Size: int64(len(blob))}
	q := question{op: "put blob", repository: repository, tagOrDigest: written.Digest.String(), scope: transport.PushScope}
	err := c.ask(ctx, q, func(ctx context.Context, s *session, ref name.Reference) error {
		return c.uploadLayer(ctx, s, ref.Context(), static.NewLayer(blob, types.MediaType(mediaType)))
	})
	return written, err
}

// brokenUpload reports whether an upload failed in a way that beginning anew
// may mend: its data did not arrive whole, or the answer to its end was lost
// and repeating the end found the upload gone.
func brokenUpload(err error) bool {
	var answer *transport.Error
	if errors.As(err, &answer) {
		if answer.Request == nil {
			return false
		}
		switch answer.Request.Method {
		case http.MethodPatch:
			return answer.StatusCode >= 500 || answer.StatusCode == http.StatusTooManyRequests || answer.StatusCode == http.StatusRequestedRangeNotSatisfiable
		case http.MethodPut:
			return answer.StatusCode == http.StatusNotFound || answer.StatusCode == http.StatusBadRequest
		}
		return false
	}
	var network *url.Error
	return errors.As(err, &network) && network.Op == "Patch" && !network.Timeout()
}

// PutManifest writes a manifest under a tag or under its own digest. What it
// refers to must be in the repository already. The manifest may not have more
// than MaxManifestSize bytes.
func (c *Client) PutManifest(ctx context.Context, repository Repository, tagOrDigest string, raw []byte, mediaType string) (ocispec.Descriptor, error) {
	written := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(raw), Size: int64(len(raw))}
	q := question{op: "put manifest", repository: repository, tagOrDigest: tagOrDigest, scope: transport.PushScope}
	err := c.ask(ctx, q, func(ctx context.Context, s *session, ref name.Reference) error {
		if len(raw) > MaxManifestSize {
			return invalidf("the manifest is larger than %d bytes", MaxManifestSize)
		}
		if _, byDigest := ref.(name.Digest); byDigest && ref.Identifier() != written.Digest.String() {
			return invalidf("the manifest has the digest %s", written.Digest)
		}
		if own, err := manifestType(raw, mediaType); err != nil {
			return err
		} else if own != mediaType {
			return invalidf("the media type %q is not that of an image", mediaType)
		}
		pusher, err := s.pusher()
		if err != nil {
			return err
		}
		return pusher.Put(ctx, ref, manifest{raw, types.MediaType(mediaType)})
	})
	return written, err
}

// Delete removes a tag, or by digest a manifest with all its tags. Many
// registries offer only the latter, or neither: that is ErrUnsupported.
func (c *Client) Delete(ctx context.Context, repository Repository, tagOrDigest string) error {
	q := question{op: "delete", repository: repository, tagOrDigest: tagOrDigest, scope: transport.DeleteScope}
	err := c.ask(ctx, q, func(ctx context.Context, s *session, ref name.Reference) error {
		pusher, err := s.pusher()
		if err != nil {
			return err
		}
		return pusher.Delete(ctx, ref)
	})
	var refused *Error
	if errors.As(err, &refused) && refused.Kind == ErrRejected {
		// Registries that delete by digest alone do not say so in one way:
		// distribution 2 answers 400 DIGEST_INVALID to a tag.
		refused.Kind = ErrUnsupported
	}
	return err
}

// CanPush asks whether the credentials allow to write to the repository: nil,
// or ErrUnauthorized and the rest. It begins an upload and gives it up, since
// registries are known to hand out tokens for rights they do not grant. The
// giving up is not waited for: an upload that is left expires.
func (c *Client) CanPush(ctx context.Context, repository Repository) error {
	q := question{op: "ask to push to", repository: repository, whole: true, scope: transport.PushScope}
	return c.ask(ctx, q, func(ctx context.Context, s *session, ref name.Reference) error {
		target := ref.Context()
		client := http.Client{Transport: s.transport}
		start := url.URL{Scheme: target.Scheme(), Host: target.RegistryStr(), Path: "/v2/" + target.RepositoryStr() + "/blobs/uploads/"}
		begin, err := http.NewRequestWithContext(ctx, http.MethodPost, start.String(), nil)
		if err != nil {
			return err
		}
		begun, err := client.Do(begin)
		if err != nil {
			return err
		}
		defer begun.Body.Close()
		if err := transport.CheckError(begun, http.StatusAccepted, http.StatusCreated); err != nil {
			return err
		}
		upload, err := begun.Location()
		if err != nil || upload.Host != begin.URL.Host {
			return nil // left to expire
		}
		go giveUp(context.WithoutCancel(ctx), client, upload)
		return nil
	})
}

// giveUpTimeout bounds the giving up of an upload.
const giveUpTimeout = 10 * time.Second

func giveUp(ctx context.Context, client http.Client, upload *url.URL) {
	ctx, cancel := context.WithTimeout(context.WithValue(ctx, sentOnce{}, true), giveUpTimeout)
	defer cancel()
	end, err := http.NewRequestWithContext(ctx, http.MethodDelete, upload.String(), nil)
	if err != nil {
		return
	}
	if ended, err := client.Do(end); err == nil {
		ended.Body.Close()
	}
}

// manifest is raw content on its way to the registry, a remote.Taggable.
type manifest struct {
	raw       []byte
	mediaType types.MediaType
}

func (m manifest) RawManifest() ([]byte, error)        { return m.raw, nil }
func (m manifest) MediaType() (types.MediaType, error) { return m.mediaType, nil }
