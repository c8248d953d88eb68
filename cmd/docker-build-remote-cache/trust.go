package main

import (
	"github.com/docker-build-remote-cache/docker-build-remote-cache/cache"
	"github.com/docker-build-remote-cache/docker-build-remote-cache/ci"
)

// origin is whose code is built: what --cache-trust says, else the CI.
func origin(o *options, f ci.Facts) cache.Origin {
	origin := cache.Origin{
		Trust: cache.Trust(f.Trust), Reason: f.TrustReason,
		PullRequest: f.PullRequest != nil, MergeQueue: f.MergeQueue,
	}
	if o.cacheTrust != "" {
		origin.Trust, origin.Reason = o.cacheTrust, "--cache-trust="+string(o.cacheTrust)
	}
	return origin
}

// distrust takes the caches that the user's own options write from the build
// of a stranger's code. Such options stand in the pipeline's file for builds
// of every origin, and are no leave for this one.
func (p *prepared) distrust(o *options) {
	if len(o.build.CacheTo) == 0 || p.plan.ReadOnly == "" {
		return
	}
	o.build.CacheTo = nil
	p.plan.Skips = append(p.plan.Skips, cache.Skip{What: "--cache-to", Reason: p.plan.ReadOnly})
}
