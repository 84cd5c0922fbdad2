package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/containerd/containerd/v2/pkg/oci"
	"github.com/opencontainers/runtime-spec/specs-go"

	"brig/internal/netns"
)

// measureCreate is the cold start of everybody, and what the pool makes of ours.
func measureCreate(ctx context.Context, s *session, o options) ([]series, error) {
	sources, err := s.sources(ctx)
	if err != nil {
		return nil, err
	}
	m := measure{name: created}
	for _, x := range sources {
		m.variants = append(m.variants, variant{name: x.name, ours: x.ours, once: x.once})
	}
	before, err := s.taken(ctx, nil)
	if err != nil {
		return nil, err
	}
	all, err := m.run(ctx, s.rng, o.rounds, s.progress)
	if err != nil {
		return all, err
	}
	taken, err := s.taken(ctx, before)
	return append(all, taken...), err
}

// sources are all ways to make a sandbox whose program writes something; each is timed
// until that is here. What it makes stays until it is removed, except raw's, which is for
// nothing else.
func (s *session) sources(ctx context.Context) ([]source, error) {
	n, err := s.node(ctx)
	if err != nil {
		return nil, err
	}
	all, err := n.rawSource(ctx)
	if err != nil {
		return nil, err
	}
	common, err := s.common(ctx)
	if err != nil {
		return nil, err
	}
	all = append(all, common...)
	runtimes, err := n.runtimes()
	if err != nil {
		return nil, err
	}
	if i := slices.IndexFunc(runtimes, func(r shimRuntime) bool { return r.name == gvisorShim }); i >= 0 {
		plugged, err := s.withUpstream(ctx, n, runtimes[i])
		if err != nil {
			return nil, err
		}
		all = append(all, plugged)
	}
	return s.withEmptyPool(ctx, all)
}

// common are the sources of what can also be made by many at once.
func (s *session) common(ctx context.Context) ([]source, error) {
	all, err := s.everyWay(ctx, (*testNode).createToOutput, (*testNode).agentCreateToOutput)
	if err != nil {
		return nil, err
	}
	return s.withPool(ctx, all)
}

// everyWay makes sandboxes by every runtime, and through brigd.
func (s *session) everyWay(ctx context.Context, by func(*testNode, shimRuntime) making, api func(*testNode, context.Context) (time.Duration, func() error, error)) ([]source, error) {
	n, err := s.node(ctx)
	if err != nil {
		return nil, err
	}
	runtimes, err := n.runtimes()
	if err != nil {
		return nil, err
	}
	var all []source
	for _, r := range runtimes {
		all = append(all, source{name: r.name, ours: r.ours, make: by(n, r)})
	}
	through := func(ctx context.Context) (time.Duration, func() error, error) { return api(n, ctx) }
	return append(all, source{name: throughAPI, ours: true, make: through}), nil
}

// withUpstream is a peer whose containers get upstream's network, in a host's namespace
// of its own: a routed veth and an address, and no policy.
func (s *session) withUpstream(ctx context.Context, n *testNode, r shimRuntime) (source, error) {
	w, err := s.networks().world(ctx, "the peer's", func(*world) error { return nil })
	if err != nil {
		return source{}, err
	}
	c, count := w.ptpChain(s.o), 0
	return source{name: gvisorCNI, make: func(ctx context.Context) (time.Duration, func() error, error) {
		count++
		began := time.Now()
		name, path, result, err := w.plug(ctx, c, count)
		if err != nil {
			return 0, nothing, err
		}
		plugged := time.Since(began)
		r := r
		r.spec = []oci.SpecOpts{oci.WithLinuxNamespace(specs.LinuxNamespace{Type: specs.NetworkNamespace, Path: path})}
		took, remove, err := n.createToOutput(r)(ctx)
		return plugged + took, func() error {
			if err := remove(); err != nil {
				return err
			}
			return c.del(context.WithoutCancel(ctx), name, path, result)
		}, err
	}}, nil
}

// plug makes a namespace and attaches it.
func (w *world) plug(ctx context.Context, c chain, count int) (name, path string, result []byte, err error) {
	full, err := w.namespace(fmt.Sprint("p", count))
	if err != nil {
		return "", "", nil, err
	}
	name, path = full, netns.Path(full)
	result, _, err = c.add(ctx, name, path)
	return name, path, result, err
}
