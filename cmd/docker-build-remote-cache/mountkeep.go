package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/docker-build-remote-cache/docker-build-remote-cache/cache"
	"github.com/docker-build-remote-cache/docker-build-remote-cache/engine"
	"github.com/docker-build-remote-cache/docker-build-remote-cache/mounts"
	"github.com/docker-build-remote-cache/docker-build-remote-cache/registry"
	"golang.org/x/sync/errgroup"
)

// mountKeeper sees to it that cache mounts survive the engine: it fills those
// that a build needs and saves those that it has changed.
type mountKeeper struct {
	plan   cache.Plan
	found  cache.Found
	client *registry.Client
	helper engine.Helper
	limits mounts.Limits

	mu      sync.Mutex
	records map[string]*mountRecord // by key
}

// mountRecord is what became of one mount.
type mountRecord struct {
	restored    mounts.Restored
	restoreErr  error
	restoreTook time.Duration
	tried       bool // to restore it

	touched  bool
	changes  mounts.Saved
	saveErr  error
	saveTook time.Duration
	saved    []cache.Saved
}

// Bounds of one mount's transfer: like all of saving, it is also bounded by
// what the build is given.
const (
	restoreLimit   = 10 * time.Minute
	maxMountsSaved = 2 // at once: they share the link and the processors
)

// mountHelper is this program as it runs inside cache mounts. Where it cannot,
// the plan is left without them.
func mountHelper(ctx context.Context, e *engine.Engine, p *prepared) engine.Helper {
	if len(p.plan.Mounts) == 0 {
		return engine.Helper{}
	}
	path, err := os.Executable()
	helper := engine.Helper{Path: path, Args: []string{mountVerb}}
	if err == nil {
		err = e.CheckHelper(ctx, helper)
	}
	if err != nil {
		p.plan.Mounts = nil
		p.plan.Skips = append(p.plan.Skips, cache.Skip{What: "cache mounts", Reason: err.Error()})
	}
	return helper
}

func newMountKeeper(o *options, p *prepared, client *registry.Client, found cache.Found, helper engine.Helper) *mountKeeper {
	m := &mountKeeper{
		plan: p.plan, found: found, client: client, helper: helper,
		limits: mounts.Limits{Bytes: o.cacheMountsMax}, records: map[string]*mountRecord{},
	}
	for _, mount := range p.plan.Mounts {
		m.records[mount.Mount.Key()] = &mountRecord{}
	}
	return m
}

// request is what the engine is asked for.
func (m *mountKeeper) request(view cache.View) engine.MountRequest {
	r := engine.MountRequest{Helper: m.helper, Restore: m.restore}
	for _, mount := range m.plan.Mounts {
		if _, ok := m.found.Mounts[mount.Mount.Key()]; ok {
			r.Restorable = append(r.Restorable, mount.Mount.Key())
		}
	}
	if len(r.Restorable) > 0 {
		r.Records = view.Records()
	}
	return r
}

func (m *mountKeeper) blobs() mounts.Blobs {
	return m.client.Blobs(m.plan.Repository)
}

// restore fills a mount from the cache that was found for it.
func (m *mountKeeper) restore(ctx context.Context, key string, reach func(context.Context, engine.MountHandler) error) {
	ctx, cancel := context.WithTimeoutCause(ctx, restoreLimit, fmt.Errorf("not done within %v", restoreLimit))
	defer cancel()
	var restored mounts.Restored
	started := time.Now()
	err := reach(ctx, func(ctx context.Context, conn io.ReadWriter) (err error) {
		restored, err = mounts.Restore(ctx, conn, m.found.Mounts[key].State, m.blobs(), m.limits)
		return err
	})
	m.mu.Lock()
	defer m.mu.Unlock()
	r := m.records[key]
	if r.tried && r.restoreErr == nil {
		return // a second build on the same engine finds it filled
	}
	r.tried, r.restored, r.restoreErr, r.restoreTook = true, restored, err, time.Since(started)
}

// save saves the mounts that steps have used, whatever became of the build.
func (m *mountKeeper) save(ctx context.Context, b engine.Build, outcome engine.Outcome) {
	mounter, ok := b.(engine.Mounter)
	if !ok || m.plan.Save == cache.SaveOnSuccess && outcome.Result != engine.OK {
		return
	}
	group := errgroup.Group{}
	group.SetLimit(maxMountsSaved)
	for _, key := range mounter.MountsTouched() {
		plan, ok := m.plan.Mount(key)
		if !ok {
			continue
		}
		m.mu.Lock()
		m.records[key].touched = true
		m.mu.Unlock()
		if len(plan.Writes) == 0 {
			continue
		}
		group.Go(func() error {
			started := time.Now()
			changes, saved, err := m.saveOne(ctx, mounter, plan)
			m.mu.Lock()
			defer m.mu.Unlock()
			r := m.records[key]
			r.changes, r.saved, r.saveErr, r.saveTook = changes, saved, err, time.Since(started)
			return nil
		})
	}
	group.Wait()
}

// Reasons not to save a mount.
var (
	// errMountEmpty: the step that would have filled it did not get that far.
	errMountEmpty = errors.New("it is empty")
	// errMountLess: it began empty, though there was something to restore.
	errMountLess = errors.New("it was not restored, and holds less than what is kept")
)

func (m *mountKeeper) saveOne(ctx context.Context, b engine.Mounter, plan cache.MountPlan) (mounts.Saved, []cache.Saved, error) {
	key := plan.Mount.Key()
	var previous *mounts.State
	if found, ok := m.found.Mounts[key]; ok {
		previous = &found.State
	}
	m.mu.Lock()
	record := *m.records[key]
	m.mu.Unlock()
	mark, restored := record.restored.Mark, record.tried && (record.restoreErr == nil || errors.Is(record.restoreErr, mounts.ErrDamaged))
	for {
		var state mounts.State
		var changes mounts.Saved
		err := b.ReachMount(ctx, key, func(ctx context.Context, conn io.ReadWriter) (err error) {
			state, changes, err = mounts.Save(ctx, conn, previous, mark, m.blobs(), m.limits)
			return err
		})
		switch {
		case err != nil && ctx.Err() != nil:
			return changes, nil, fmt.Errorf("%w: %w", context.Cause(ctx), err)
		case err != nil:
			return changes, nil, err
		case changes.Entries == 0:
			return changes, nil, errMountEmpty
		case previous != nil && !restored && changes.Bytes < previous.Bytes:
			return changes, nil, errMountLess
		}
		saved := cache.SaveMount(ctx, m.client, m.plan, m.found, plan, state, !changes.Unchanged, version())
		lost := false
		for _, one := range saved {
			lost = lost || errors.Is(one.Err, registry.ErrRejected)
		}
		if !lost || previous == nil {
			return changes, saved, nil
		}
		previous = nil // the registry has lost a part of it
	}
}

// lost tells whether a mount that was to be saved is not.
func (m *mountKeeper) lost() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, r := range m.records {
		if r.saveErr != nil && !errors.Is(r.saveErr, errMountEmpty) && !errors.Is(r.saveErr, errMountLess) {
			return true
		}
		for _, one := range r.saved {
			if one.Err != nil {
				return true
			}
		}
	}
	return false
}
