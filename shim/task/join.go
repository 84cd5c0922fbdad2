package task

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"brig/internal/netns"
	"brig/internal/sandbox"
	"brig/internal/undo"
	"brig/shim/bundle"
	"brig/shim/runsc"
	"brig/shim/stdio"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// createJoined makes a container in a sandbox that runs.
func (b *Sandbox) createJoined(ctx context.Context, r CreateRequest) (*Task, error) {
	spec, err := r.Bundle.Spec()
	if err != nil {
		return nil, err
	}
	return b.joinWith(ctx, r, spec)
}

func (b *Sandbox) joinWith(ctx context.Context, r CreateRequest, spec *specs.Spec) (_ *Task, err error) {
	t := newTask(b, r)
	t.spec = spec
	normal, err := t.planJoined()
	if err != nil {
		return nil, err
	}
	if err := t.planRestore(ctx, normal); err != nil {
		return nil, err
	}
	t.args = normal.Process.Args
	if err := t.checkGPUs(ctx); err != nil {
		return nil, err
	}
	if err := b.enter(); err != nil {
		return nil, err
	}
	var steps undo.Stack
	defer steps.Undo(ctx, &err)
	steps.Push("leave the sandbox", func(context.Context) error { b.joined.Done(); return nil })
	if err := t.prepare(&steps, normal); err != nil {
		return nil, err
	}
	steps.Push("sweep container", func(ctx context.Context) error { return Sweep(ctx, r.Bundle, t.record) })
	if err := t.limit(); err != nil {
		return nil, err
	}
	io, err := t.createInSentry(ctx)
	if err != nil {
		return nil, err
	}
	t.init.size = sizeOf(t.spec.Process)
	if err := t.init.fit(io); err != nil {
		io.Close()
		return nil, err
	}
	steps.Release()
	t.init.io = io
	return t, nil
}

// planJoined decides everything that can be decided without a side effect.
func (t *Task) planJoined() (normal *specs.Spec, err error) {
	b := t.sandbox
	if t.request.Checkpoint != "" && !t.isSole() {
		return nil, fmt.Errorf("restore one container of a pod: an image holds a whole sandbox: %w", errdefs.ErrInvalidArgument)
	}
	if err := t.checkTerminal(); err != nil {
		return nil, err
	}
	if of := bundle.SandboxOf(t.spec); of != "" && of != b.id() {
		return nil, fmt.Errorf("a container of sandbox %s in the shim of sandbox %s: %w", of, b.id(), errdefs.ErrInvalidArgument)
	}
	if err := t.mayWish(); err != nil {
		return nil, err
	}
	if err := b.sameNetwork(t.spec); err != nil {
		return nil, err
	}
	t.id, t.runsc = runsc.JoinedID(t.request.ID), b.root.runsc
	if t.isSole() {
		t.id = runsc.ClaimedID(t.request.ID)
	}
	if err := t.planGPUs(); err != nil {
		return nil, err
	}
	if err := b.hasGPUs(t.gpus); err != nil {
		return nil, err
	}
	host := t.host()
	host.Sandbox, host.SandboxPID = b.id(), b.pid()
	normal, err = bundle.Normalize(t.gpus.Spec, host)
	if err == nil && t.isSole() {
		normal.Process.ConsoleSize = nil // as in create
		err = t.planOwn(normal)
	}
	return normal, err
}

// mayWish refuses annotations that could not be honoured any more. The wishes of a sandbox
// that has waited are its program's.
func (t *Task) mayWish() error {
	b := t.sandbox
	if !t.isSole() {
		return sameWishes(b.root.spec.Annotations, t.spec.Annotations)
	}
	if t.spec.Annotations[sandbox.AnnotationGPU] != "" {
		return fmt.Errorf("GPUs for a sandbox that was booted without: %w", errdefs.ErrFailedPrecondition)
	}
	block, err := b.shim.opts.Gate.Plan(t.spec.Annotations, b.config)
	if err == nil && block != b.block {
		err = fmt.Errorf("a sandbox has a network from its boot on, or none: %w", errdefs.ErrFailedPrecondition)
	}
	return err
}

// sameWishes: there is one policy in a sandbox. A container that joins may repeat what
// was asked for, not change it.
func sameWishes(sandboxs, joining map[string]string) error {
	for _, key := range slices.Sorted(maps.Keys(joining)) {
		given, ok := sandboxs[key]
		if strings.HasPrefix(key, sandbox.AnnotationPrefix) && (!ok || given != joining[key]) {
			return fmt.Errorf("annotation %s of a container that joins a sandbox: set it on the pod: %w", key, errdefs.ErrInvalidArgument)
		}
	}
	return nil
}

// sameNetwork refuses a network namespace that the container would not get.
func (b *Sandbox) sameNetwork(spec *specs.Spec) error {
	if spec.Linux == nil || b.block {
		return nil
	}
	for _, ns := range spec.Linux.Namespaces {
		if ns.Type != specs.NetworkNamespace || ns.Path == "" {
			continue
		}
		wanted, err := netns.ID(ns.Path)
		if err != nil {
			return fmt.Errorf("network namespace of a container that joins: %w: %w", err, errdefs.ErrInvalidArgument)
		}
		own, err := netns.ID(fmt.Sprintf("/proc/%d/ns/net", b.pid()))
		if err != nil {
			return fmt.Errorf("network namespace of the sandbox: %w", err)
		}
		if wanted != own {
			return fmt.Errorf("network namespace %s is not the one of the sandbox that the container joins: %w", ns.Path, errdefs.ErrInvalidArgument)
		}
	}
	return nil
}

// createInSentry announces the container to the sentry. runsc takes its streams with
// its start, but makes its terminal now.
func (t *Task) createInSentry(ctx context.Context) (*stdio.IO, error) {
	b := t.request.Bundle
	o := runsc.CreateOptions{Bundle: b.Dir()}
	opening, opened := t.whileItRuns(ctx)
	defer opened()
	if !t.request.Streams.Terminal {
		io, err := stdio.Open(opening, t.request.Streams)
		if err != nil {
			return nil, err
		}
		if err := t.createStreamed(ctx, io, o); err != nil {
			io.Close()
			return nil, err
		}
		return io, nil
	}
	console, err := runsc.ListenConsole(b.Dir())
	if err != nil {
		return nil, err
	}
	defer console.Close()
	o.ConsoleSocket = console.Name
	if err := t.runsc.Create(ctx, t.id, o); err != nil {
		return nil, err
	}
	master, err := console.Receive()
	if err != nil {
		return nil, err
	}
	return stdio.OpenConsole(opening, t.request.Streams, master)
}
