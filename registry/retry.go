package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/go-retryablehttp"
)

// Wait is a pause before a request is sent again.
type Wait struct {
	Host   string        // of the registry, its token service or its storage
	Reason string        // such as "429 Too Many Requests" or "connection refused"
	Asked  bool          // the registry named the delay itself, by Retry-After
	Delay  time.Duration // until the next attempt
	Tries  int           // attempts made so far, at least 1
}

// retrying is an http.RoundTripper that sends a request again where that can
// help and can do no harm, and reads the whole body of an answer, so that an
// answer that breaks off is one more failed attempt. A host that nobody answers
// for is tried twice, and then by nobody for a while.
//
// Not sent again: what was answered with anything but 429 and 5xx; what the
// same request will meet again (a wrong certificate, an unknown host, http
// where https was expected); and a PATCH that may have arrived, since it
// appends.
type retrying struct {
	base     http.RoundTripper
	attempts int           // at least 1
	wait     time.Duration // before the second attempt, then doubling
	longest  time.Duration // a longer wait, asked for or not, ends the attempts
	onWait   func(Wait)    // may be nil

	gone sync.Map // scheme and host -> outage: those that could not be reached
}

// outage is a host that could not be reached. Whoever asks it soon after gets
// the same answer at once, or every operation of a run would wait by itself.
type outage struct {
	err   error
	until time.Time
}

// outageTime is for how long a host that could not be reached is not asked
// again: the end of a build is another matter than its beginning.
const outageTime = 30 * time.Second

// reachAttempts is how often a host that refuses connections is tried: once
// more, since it may be starting.
const reachAttempts = 2

// unreachable tells whether nobody answers for the host at all.
func unreachable(err error) bool {
	var unknownHost *net.DNSError
	return errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.EHOSTUNREACH) || errors.Is(err, syscall.ENETUNREACH) ||
		errors.As(err, &unknownHost) && unknownHost.IsNotFound
}

// sentOnce is the key of a context whose requests are sent once, and nothing is
// told or remembered of how they fail: nobody waits for the answer.
type sentOnce struct{}

// RoundTrip implements http.RoundTripper.
func (r *retrying) RoundTrip(request *http.Request) (*http.Response, error) {
	if request.Context().Value(sentOnce{}) != nil {
		return wholeBodies{r.base}.RoundTrip(request)
	}
	host := request.URL.Scheme + "://" + request.URL.Host
	if known, ok := r.gone.Load(host); ok && time.Now().Before(known.(outage).until) {
		return nil, known.(outage).err
	}
	response, err := r.send(request)
	switch {
	case err == nil:
		r.gone.Delete(host)
	case unreachable(err):
		r.gone.Store(host, outage{err, time.Now().Add(outageTime)})
	}
	return response, err
}

func (r *retrying) send(request *http.Request) (*http.Response, error) {
	if request.Method == http.MethodPatch && request.ContentLength > partSize {
		// To send it again, it would be read into memory.
		return wholeBodies{r.base}.RoundTrip(request)
	}
	s := sending{retrying: r, request: request}
	client := &retryablehttp.Client{
		HTTPClient: &http.Client{
			Transport: wholeBodies{r.base},
			// Redirects are followed above, where credentials are handled.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		RetryMax:     r.attempts - 1,
		CheckRetry:   s.again,
		Backoff:      s.pause,
		ErrorHandler: s.giveUp,
	}
	// A RoundTripper may not change its request, and retryablehttp does.
	return (&retryablehttp.RoundTripper{Client: client}).RoundTrip(request.Clone(request.Context()))
}

// sending is one request on its way through its attempts.
type sending struct {
	*retrying
	request *http.Request
	tries   int
	reason  string        // why the last attempt is not the last
	next    time.Duration // the wait before the next attempt
	asked   bool          // next was named by the registry
}

// again decides after each attempt whether there is another.
func (s *sending) again(ctx context.Context, response *http.Response, err error) (bool, error) {
	s.tries++
	if ctx.Err() != nil {
		return false, ctx.Err()
	}
	if !s.canHelp(response, err) || unreachable(err) && s.tries >= reachAttempts {
		return false, nil
	}
	s.next, s.asked = s.delay(response)
	if s.next > s.longest {
		return false, nil
	}
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) < s.next {
		return false, nil // rather tell now what the registry said
	}
	return true, nil
}

func (s *sending) canHelp(response *http.Response, err error) bool {
	if retry, _ := retryablehttp.ErrorPropagatedRetryPolicy(context.Background(), response, err); !retry {
		return false
	}
	if err == nil {
		s.reason = response.Status
		refused := response.StatusCode == http.StatusTooManyRequests
		return refused || s.request.Method != http.MethodPatch
	}
	s.reason = reasonOf(err)
	var unknownHost *net.DNSError
	switch {
	case errors.Is(err, ErrInvalid), errors.Is(err, http.ErrSchemeMismatch):
		return false
	case errors.As(err, &unknownHost) && unknownHost.IsNotFound:
		return false
	default:
		return s.request.Method != http.MethodPatch
	}
}

// delay is what the registry asks for, else doubles with each attempt.
func (s *sending) delay(response *http.Response) (delay time.Duration, asked bool) {
	const unasked = -1
	if asked := retryablehttp.DefaultBackoff(unasked, unasked, 0, response); asked >= 0 {
		return max(asked, s.wait), true
	}
	delay = retryablehttp.DefaultBackoff(s.wait, s.longest, s.tries-1, nil)
	// Many requests are refused at once; they should not all come back at once.
	return min(delay+rand.N(delay/4+1), s.longest), false
}

// pause reports the wait that again has decided on.
func (s *sending) pause(_, _ time.Duration, _ int, _ *http.Response) time.Duration {
	if s.onWait != nil {
		s.onWait(Wait{Host: s.request.URL.Host, Reason: s.reason, Asked: s.asked, Delay: s.next, Tries: s.tries})
	}
	return s.next
}

// giveUp passes the last answer on, whatever its status: who asked knows best
// what it means.
func (s *sending) giveUp(response *http.Response, err error, tries int) (*http.Response, error) {
	if err == nil {
		return response, nil
	}
	if response != nil {
		response.Body.Close()
	}
	if request := (*url.Error)(nil); errors.As(err, &request) {
		err = request.Err
	}
	if tries > 1 {
		err = fmt.Errorf("after %d attempts: %w", tries, err)
	}
	return nil, err
}

// reasonOf is the heart of a network error, without addresses and URLs.
func reasonOf(err error) string {
	for inner := errors.Unwrap(err); inner != nil; inner = errors.Unwrap(err) {
		err = inner
	}
	return err.Error()
}

// maxErrorBody is as much of the body of a refusal as go-containerregistry
// reads; what is longer would make it lose the status.
const maxErrorBody = 64 << 10

// bodyLimit is the key of the longest body, in bytes as int64, that the
// operation of a context reads.
type bodyLimit struct{}

// wholeBodies is an http.RoundTripper that reads the body of an answer before
// it returns the answer. What is longer than the operation allows is
// ErrInvalid.
type wholeBodies struct{ base http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (w wholeBodies) RoundTrip(request *http.Request) (*http.Response, error) {
	response, err := w.base.RoundTrip(request)
	if err != nil || request.Method == http.MethodHead {
		return response, err
	}
	defer response.Body.Close()
	limit := int64(MaxManifestSize)
	if own, ok := request.Context().Value(bodyLimit{}).(int64); ok {
		limit = max(limit, own)
	}
	refusal := response.StatusCode >= 400
	if refusal {
		limit = maxErrorBody
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, limit+1))
	if err != nil && !refusal {
		return nil, fmt.Errorf("read the answer: %w", err)
	}
	if int64(len(body)) > limit {
		if !refusal {
			return nil, invalidf("the answer is larger than %d bytes", limit)
		}
		body = body[:limit]
	}
	response.Body = io.NopCloser(bytes.NewReader(body))
	return response, nil
}
