package engine

import (
	"context"
	"fmt"
	"path"
	"sync"

	"github.com/containerd/containerd/api/services/tasks/v1"
	tasktypes "github.com/containerd/containerd/api/types/task"
	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/pkg/cio"
	"github.com/containerd/containerd/v2/pkg/oci"
	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sync/errgroup"

	"brig/internal/failpoint"
	"brig/internal/sandbox"
	"brig/internal/slot"
	"brig/nodeagent/record"
)

// Slot is a sandbox to be booted before anybody asks for it.
type Slot struct {
	ID        string
	Netns     string // path
	Resources record.Resources
}

// Boot makes a container and a task that wait for Claim. What it made before an error is
// left for Remove.
func (e *Engine) Boot(ctx context.Context, s Slot) error {
	ctx = e.in(ctx)
	container, err := e.client.NewContainer(ctx, s.ID,
		containerd.WithRuntime(sandbox.Runtime, nil),
		containerd.WithSnapshotter(snapshotter),
		containerd.WithNewSpec(
			oci.WithHostname(s.ID),
			oci.WithProcessArgs(Guest("brig-idle")),
			oci.WithCgroup(path.Join(e.cgroup, s.ID)),
			oci.WithAnnotations(map[string]string{sandbox.AnnotationSlot: "true"}),
			oci.WithLinuxNamespace(specs.LinuxNamespace{Type: specs.NetworkNamespace, Path: s.Netns}),
			limits(s.Resources),
		),
	)
	if err != nil {
		return fmt.Errorf("make container: %w", native(err))
	}
	failpoint.Hit("boot.container")
	if _, err := container.NewTask(ctx, func(string) (cio.IO, error) { return named{}, nil }); err != nil {
		return fmt.Errorf("boot: %w", native(err))
	}
	return nil
}

// Waits tells that a slot is there and was not claimed. The shim is asked.
func (e *Engine) Waits(ctx context.Context, id string) (bool, error) {
	r, err := e.client.TaskService().Get(e.in(ctx), &tasks.GetRequest{ContainerID: id})
	if errdefs.IsNotFound(native(err)) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look for slot %s: %w", id, native(err))
	}
	return r.GetProcess().GetStatus() == tasktypes.Status_CREATED, nil
}

// Claim makes s of the slot with its id, not started: snapshot, container and the program
// in the sandbox that runs already. What it made before an error is left for Remove.
func (e *Engine) Claim(ctx context.Context, s Sandbox) error {
	ctx = e.in(ctx)
	image, err := e.find(ctx, s.Image)
	if err != nil {
		return err
	}
	if s.Held {
		return e.claimHeld(ctx, s, image)
	}
	opened := e.openGate(ctx, s)
	defer func() { _ = opened() }() // whoever undoes this finds it over
	mounts, err := e.prepare(ctx, s.ID, image)
	if err != nil {
		return err
	}
	failpoint.Hit("claim.snapshot")
	c, spec, err := e.containerOf(ctx, s, image)
	if err != nil {
		return fmt.Errorf("make container: %w", native(err))
	}
	if err := e.rewrite(ctx, c); err != nil {
		return err
	}
	failpoint.Hit("claim.container")
	payload, err := claimOf(s, spec, mounts).Encode()
	if err != nil {
		return fmt.Errorf("encode a claim: %w", err)
	}
	if err := opened(); err != nil {
		return err
	}
	if err := e.tell(ctx, s.ID, slot.TypeURL, payload); err != nil {
		return err
	}
	failpoint.Hit("claim.task")
	return nil
}

// openGate lets the policy be bound while the rest is prepared. asked returns when the
// shim knows of it: a claim comes after.
func (e *Engine) openGate(ctx context.Context, s Sandbox) (asked func() error) {
	wishes := annotations(s)
	if s.Traced {
		wishes[sandbox.AnnotationTrace] = "true"
	}
	return sync.OnceValue(async(func() error {
		payload, err := slot.Gate{Annotations: wishes}.Encode()
		if err != nil {
			return err
		}
		return e.tell(ctx, s.ID, slot.GateTypeURL, payload)
	}))
}

// async begins do; the result waits for it.
func async(do func() error) func() error {
	ended := make(chan error, 1)
	go func() { ended <- do() }()
	return func() error { return <-ended }
}

// claimHeld has a sandbox that has waited with its checkpoint loaded be s: it has all that s
// needs but for its policy.
func (e *Engine) claimHeld(ctx context.Context, s Sandbox, image containerd.Image) error {
	c, spec, err := e.containerOf(ctx, s, image)
	if err != nil {
		return fmt.Errorf("make container: %w", native(err))
	}
	payload, err := slot.Held{Annotations: spec.Annotations}.Encode()
	if err != nil {
		return fmt.Errorf("encode a claim: %w", err)
	}
	var both errgroup.Group // without its context: one is undone more easily when the other has ended, too
	both.Go(func() error { return e.rewrite(ctx, c) })
	both.Go(func() error { return e.tell(ctx, s.ID, slot.HeldURL, payload) })
	return both.Wait()
}

// tell the shim of a sandbox that waits what it is for.
func (e *Engine) tell(ctx context.Context, id, url string, payload []byte) error {
	if err := e.askShim(ctx, id, url, payload); err != nil {
		return fmt.Errorf("make task: %w", err)
	}
	return nil
}

// rewrite gives the slot's container its spec, image and snapshot.
func (e *Engine) rewrite(ctx context.Context, c containers.Container) error {
	_, err := e.client.ContainerService().Update(ctx, c, "spec", "image", "snapshotkey", "labels")
	if err != nil {
		return fmt.Errorf("make container: %w", native(err))
	}
	return nil
}

func claimOf(s Sandbox, spec *specs.Spec, mounts []mount.Mount) slot.Claim {
	to := streamsOf(s)
	c := slot.Claim{Spec: spec, Stdin: to.Stdin, Stdout: to.Stdout, Stderr: to.Stderr, Terminal: to.Terminal}
	for _, m := range mounts {
		c.Rootfs = append(c.Rootfs, slot.Mount{Type: m.Type, Source: m.Source, Target: m.Target, Options: m.Options})
	}
	return c
}
