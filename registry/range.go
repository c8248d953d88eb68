package registry

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/opencontainers/go-digest"
)

// BlobRange reads size bytes of a blob from an offset, less at its end (OCI
// distribution specification 1.1, "Pulling blobs"). Unlike Blob it cannot
// verify the digest: that is for whoever puts the parts together. A registry
// that knows no ranges is ErrInvalid, unless the part is the whole blob.
func (c *Client) BlobRange(ctx context.Context, repository Repository, d digest.Digest, offset, size int64) ([]byte, error) {
	var part []byte
	q := question{op: "get part of blob", repository: repository, tagOrDigest: d.String(), scope: transport.PullScope}
	err := c.ask(ctx, q, func(ctx context.Context, s *session, ref name.Reference) error {
		target := ref.Context()
		location := url.URL{Scheme: target.Scheme(), Host: target.RegistryStr(), Path: "/v2/" + target.RepositoryStr() + "/blobs/" + d.String()}
		request, err := http.NewRequestWithContext(context.WithValue(ctx, bodyLimit{}, size), http.MethodGet, location.String(), nil)
		if err != nil {
			return err
		}
		request.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", offset, offset+size-1))
		response, err := (&http.Client{Transport: s.transport}).Do(request)
		if err != nil {
			return err
		}
		defer response.Body.Close()
		if err := transport.CheckError(response, http.StatusPartialContent, http.StatusOK); err != nil {
			return err
		}
		if part, err = io.ReadAll(response.Body); err != nil {
			return err
		}
		if response.StatusCode == http.StatusOK && offset > 0 {
			return invalidf("the registry sent the whole blob instead of a part")
		}
		if int64(len(part)) > size {
			return invalidf("the registry sent %d bytes, more than %d", len(part), size)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return part, nil
}
