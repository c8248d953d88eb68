package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/docker-build-remote-cache/docker-build-remote-cache/cache"
	"github.com/docker-build-remote-cache/docker-build-remote-cache/ci"
	"github.com/docker-build-remote-cache/docker-build-remote-cache/registry"
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

// look looks the caches up, and asks meanwhile whether any may be written: a
// laptop with read rights is told so once, and before it has exported
// gigabytes. An answer that is no answer is left to the saving.
func (s surroundings) look(ctx context.Context, client *registry.Client, p *prepared) cache.Found {
	if p.plan.Push && p.plan.Origin.Trust != cache.TrustOwn {
		s.talk("%s: the push of %s needs credentials that such builds mostly lack; --push=false leaves it out", p.plan.Origin.Trust, p.plan.Image)
	}
	answer := make(chan error, 1)
	if p.plan.Writes() {
		go func() { answer <- client.CanPush(ctx, p.plan.Repository) }()
	} else {
		answer <- nil
	}
	found := cache.Look(ctx, client, p.plan)
	if err := <-answer; errors.Is(err, registry.ErrUnauthorized) {
		p.plan = p.plan.MakeReadOnly(fmt.Sprintf("no right to write to %s: cache is read-only", p.plan.Repository))
		may := "may be read but not written"
		if found.Refused {
			may = "may neither be read nor written"
		}
		s.talk("warning: %s %s: no cache is saved; %s", p.plan.Repository, may, registryHint(err))
	}
	return found
}
