package registry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// What an operation of the Client came to, for errors.Is. Exactly one of them
// is behind every *Error, except when the caller cancelled: then it is
// context.Canceled.
var (
	// ErrNotFound: there is no such tag, manifest, blob or repository.
	ErrNotFound = errors.New("not found")
	// ErrUnauthorized: the registry refused the credentials, or wants some.
	// GHCR, Docker Hub and ECR answer so for a missing repository too, since
	// they do not tell strangers what exists.
	ErrUnauthorized = errors.New("access denied")
	// ErrUnavailable: the registry did not answer, or only with 429 or 5xx,
	// after all attempts.
	ErrUnavailable = errors.New("registry unavailable")
	// ErrUnsupported: this registry does not offer the operation, as many do
	// not offer to delete.
	ErrUnsupported = errors.New("not supported by the registry")
	// ErrRejected: the registry did not accept what was written, for example
	// because a tag is immutable or a manifest names a blob it lacks.
	ErrRejected = errors.New("rejected by the registry")
	// ErrInvalid: what was read cannot be used: it is truncated, too large,
	// of a foreign type, or does not have the digest it should have.
	ErrInvalid = errors.New("invalid content")
)

// Error is the failure of one operation of the Client.
type Error struct {
	Op   string // such as "head", "put manifest"
	Ref  string // what was asked for, such as ghcr.io/acme/app:master
	Host string // of the registry, such as ghcr.io
	Kind error  // one of the sentinels of this package, or context.Canceled
	Err  error  // the cause
}

func (e *Error) Error() string { return fmt.Sprintf("%s %s: %v: %v", e.Op, e.Ref, e.Kind, e.Err) }

func (e *Error) Unwrap() []error { return []error{e.Kind, e.Err} }

// invalidError marks content this package itself found unusable, wherever in
// a chain of causes it ends up.
type invalidError struct{ problem string }

func (e *invalidError) Error() string        { return e.problem }
func (e *invalidError) Is(target error) bool { return target == ErrInvalid }

func invalidf(format string, args ...any) error {
	return &invalidError{fmt.Sprintf(format, args...)}
}

// credentialError is the failure of a credential helper or a broken docker
// configuration, which is no answer of the registry at all.
type credentialError struct{ err error }

func (e *credentialError) Error() string { return "find credentials: " + e.err.Error() }
func (e *credentialError) Unwrap() error { return e.err }

// failure makes the *Error of an operation; nil stays nil.
func (q question) failure(err error) error {
	if err == nil {
		return nil
	}
	kind := kindOf(q.repository, err)
	// The URL of a request says nothing that Ref does not, and after a
	// redirect its query may hold a signature.
	if request, ok := err.(*url.Error); ok {
		err = request.Err
	}
	if answer, ok := err.(*transport.Error); ok {
		err = forPeople(answer)
	}
	return &Error{Op: q.op, Ref: q.text(), Host: q.repository.host, Kind: kind, Err: err}
}

// forPeople leaves out of an answer the details that are no text, which would
// be printed as Go prints a map.
func forPeople(answer *transport.Error) *transport.Error {
	plain := *answer
	plain.Errors = slices.Clone(answer.Errors)
	for i := range plain.Errors {
		if _, text := plain.Errors[i].Detail.(string); !text {
			plain.Errors[i].Detail = nil
		}
	}
	return &plain
}

func kindOf(repository Repository, err error) error {
	var credentials *credentialError
	var answer *transport.Error
	var network *url.Error
	switch {
	case errors.Is(err, context.Canceled):
		return context.Canceled
	case errors.Is(err, ErrInvalid):
		return ErrInvalid
	case errors.As(err, &credentials):
		return ErrUnauthorized
	case errors.As(err, &answer):
		return kindOfAnswer(repository, answer)
	case errors.As(err, &network), errors.Is(err, context.DeadlineExceeded):
		return ErrUnavailable
	default:
		// Neither the network nor a status: go-containerregistry could not
		// use the answer.
		return ErrInvalid
	}
}

func kindOfAnswer(repository Repository, answer *transport.Error) error {
	has := func(codes ...transport.ErrorCode) bool {
		return slices.ContainsFunc(answer.Errors, func(d transport.Diagnostic) bool {
			return slices.Contains(codes, d.Code)
		})
	}
	status := answer.StatusCode
	switch {
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		return ErrUnauthorized
	case status == http.StatusTooManyRequests, status == http.StatusRequestTimeout, status >= 500 && status != http.StatusNotImplemented:
		return ErrUnavailable
	case !about(repository, answer.Request):
		// The ping or the token service said so: whatever the status, it is
		// not about the content that was asked for.
		return ErrUnavailable
	case has(transport.ManifestBlobUnknownErrorCode),
		answer.Request.Method == http.MethodPut && has(transport.ManifestUnknownErrorCode, transport.BlobUnknownErrorCode):
		return ErrRejected // what was written refers to what is not there
	case status == http.StatusNotFound, has(transport.NameUnknownErrorCode, transport.ManifestUnknownErrorCode, transport.BlobUnknownErrorCode):
		return ErrNotFound
	case status == http.StatusMethodNotAllowed, status == http.StatusNotImplemented, has(transport.UnsupportedErrorCode):
		return ErrUnsupported
	default:
		return ErrRejected
	}
}

// about reports whether the request was, before any redirect, one about
// content of the repository, and not part of the handshake.
func about(repository Repository, request *http.Request) bool {
	if request == nil {
		return false
	}
	for request.Response != nil && request.Response.Request != nil {
		request = request.Response.Request
	}
	return strings.HasPrefix(request.URL.Path, "/v2/"+repository.path+"/")
}
