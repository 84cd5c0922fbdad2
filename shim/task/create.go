package task

import (
	"context"
	"fmt"
	"os"
	"strings"

	"brig/internal/phases"
	"brig/internal/sandbox"
	"brig/internal/undo"
	"brig/shim/bundle"
	"brig/shim/cgroup"
	"brig/shim/checkpoint"
	"brig/shim/rootfs"
	"brig/shim/runsc"
	"brig/shim/stdio"

	"github.com/containerd/containerd/v2/pkg/identifiers"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// Create makes a task, ready to be started, or leaves nothing behind. The first makes
// the sandbox; others join it, if it is a pod's.
func (s *Shim) Create(ctx context.Context, r CreateRequest) (pid int, err error) {
	if err := identifiers.Validate(r.ID); err != nil {
		return 0, fmt.Errorf("create sandbox: %w", err)
	}
	ctx, join, release, err := s.reserve(ctx, r.ID)
	if err != nil {
		return 0, err
	}
	var t *Task
	if join == nil {
		t, err = s.createRoot(ctx, r)
	} else {
		t, err = join.createJoined(ctx, r)
	}
	if err == nil { // before anybody finds it, and starts it
		t.emit(EventCreated{Request: r, PID: t.sandbox.pid()})
	}
	release(t)
	if err != nil {
		return 0, fmt.Errorf("create sandbox: %w", err)
	}
	switch {
	case t.isWaiting():
		go t.watchWaiting()
	case t.sandbox.held == nil: // which is watched since it loads
		t.watchAll()
	}
	return t.sandbox.pid(), nil
}

func (s *Shim) createRoot(ctx context.Context, r CreateRequest) (*Task, error) {
	spec, err := r.Bundle.Spec()
	if err != nil {
		return nil, err
	}
	switch slot := spec.Annotations[sandbox.AnnotationSlot] != ""; {
	case slot && r.Checkpoint != "":
		return s.createHeld(ctx, r, spec)
	case slot:
		return s.createSlot(ctx, r, spec)
	}
	if r.Checkpoint != "" {
		image, err := checkpoint.Open(r.Checkpoint)
		if err != nil {
			return nil, err
		}
		if image.Slot {
			return s.createLikeSlot(ctx, r, spec)
		}
	}
	t := s.newRoot(r, spec)
	t.sandbox.pod = bundle.IsPod(spec)
	if spec.Annotations[sandbox.AnnotationTrace] != "" {
		t.sandbox.phases = &phases.Recorder{}
	}
	if err := t.create(ctx); err != nil {
		return nil, err
	}
	return t, nil
}

func (s *Shim) newRoot(r CreateRequest, spec *specs.Spec) *Task {
	b := &Sandbox{shim: s, config: r.Config, gone: make(chan struct{})}
	b.root = newTask(b, r)
	b.root.spec = spec
	return b.root
}

// create makes the sandbox of a root container.
func (t *Task) create(ctx context.Context) (err error) {
	normal, err := t.planSandbox()
	if err != nil {
		return err
	}
	if err := t.planRestore(ctx, normal); err != nil {
		return err
	}
	if err := t.checkGPUs(ctx); err != nil {
		return err
	}
	t.args = normal.Process.Args
	t.nvproxy = servedByDriver(normal)
	normal.Process.ConsoleSize = nil // ours to set, and runsc would compare it at a restore
	var steps undo.Stack
	defer steps.Undo(ctx, &err)
	prepared := t.sandbox.phases.Begin("shim: mount")
	if err := t.prepare(&steps, normal); err != nil {
		return err
	}
	prepared()
	io, err := stdio.Open(ctx, t.request.Streams)
	if err != nil {
		return err
	}
	steps.Push("close streams", func(context.Context) error { io.Close(); return nil })
	t.init.size = sizeOf(t.spec.Process)
	if err := t.init.fit(io); err != nil {
		return err
	}
	b := t.request.Bundle
	o := runsc.CreateOptions{Bundle: b.Dir(), PIDFile: b.PIDFile(), Stdio: io.Files()}
	booted := t.sandbox.phases.Begin("shim: runsc create")
	if err := t.sandbox.boot(ctx, &steps, o); err != nil {
		return err
	}
	booted()
	steps.Release()
	io.Started()
	t.init.io = io
	return nil
}

// planSandbox decides everything that can be decided without a side effect.
func (t *Task) planSandbox() (normal *specs.Spec, err error) {
	if err := t.checkTerminal(); err != nil {
		return nil, err
	}
	b, cfg := t.sandbox, t.sandbox.config
	if b.slot == nil && b.held == nil { // which has one already, or whoever gets it brings the wishes
		if b.block, err = b.shim.opts.Gate.Plan(t.spec.Annotations, cfg); err != nil {
			return nil, err
		}
	}
	if err := t.planGPUs(); err != nil {
		return nil, err
	}
	normal, err = bundle.Normalize(t.gpus.Spec, t.host())
	if err != nil {
		return nil, err
	}
	if err := t.planOwn(normal); err != nil {
		return nil, err
	}
	t.runsc = runsc.For(cfg, b.shim.opts.Namespace, b.id())
	t.runsc.DriverCapabilities = t.driverCapabilities()
	t.runsc.SystemdCgroup = isSystemdPath(normal.Linux.CgroupsPath)
	if t.request.SystemdCgroup && !t.runsc.SystemdCgroup {
		return nil, fmt.Errorf("cgroups path %q: the runtime options ask for systemd's form, slice:prefix:name: %w", normal.Linux.CgroupsPath, errdefs.ErrInvalidArgument)
	}
	if b.block {
		t.runsc.Network = runsc.NetworkNone
	}
	b.control = runsc.NewControl(t.runsc.Root, b.id())
	return normal, nil
}

func (t *Task) host() bundle.Host {
	hostname, _ := os.Hostname() // uname cannot fail
	return bundle.Host{
		Hostname: hostname,
		Bundle:   t.request.Bundle, BlockNetwork: t.sandbox.block, LowestOOMScore: lowestOOMScore(),
		AllowedAnnotations: t.sandbox.config.Runsc.AllowedAnnotations, Pod: t.isRoot() && t.sandbox.pod,
		Own: t.isSole() && t.inOwnNamespace(), GPUs: t.gpus.Devices,
	}
}

func (t *Task) checkTerminal() error {
	if t.spec.Process == nil || t.spec.Process.Terminal != t.request.Streams.Terminal {
		return fmt.Errorf("the spec and the request disagree about a terminal: %w", errdefs.ErrInvalidArgument)
	}
	return nil
}

// prepare makes the bundle that runsc is shown, with the root filesystem in place, and
// the record of what is about to be made.
func (t *Task) prepare(steps *undo.Stack, normal *specs.Spec) error {
	b := t.request.Bundle
	if err := os.Mkdir(b.Dir(), 0o700); err != nil {
		return err
	}
	steps.Push("remove records", func(context.Context) error { return os.RemoveAll(b.Dir()) })
	if err := t.sharePod(normal); err != nil {
		return err
	}
	if err := b.WriteSpec(normal); err != nil {
		return err
	}
	if err := t.mountRootfs(steps); err != nil {
		return err
	}
	if err := t.prepareGPUs(normal); err != nil {
		return err
	}
	if err := bundle.CheckProgram(normal); err != nil {
		return err
	}
	t.runsc.Overlay = rootfs.Overlay(normal.Root, t.kept())
	if err := t.limitDisk(); err != nil {
		return err
	}
	if strings.HasPrefix(t.runsc.Overlay, "root:self") && len(t.request.Rootfs) > 0 {
		if err := removeFilestores(b.Rootfs()); err != nil {
			return err
		}
	}
	t.record = bundle.Record{
		Namespace: t.sandbox.shim.opts.Namespace, ID: t.request.ID,
		Container: t.id, Joined: !t.isRoot(), Runsc: t.runsc,
	}
	if !cgroup.Exists(normal.Linux.CgroupsPath) {
		t.record.Cgroup = normal.Linux.CgroupsPath
	}
	if t.isSole() && !t.isRoot() {
		return b.NoteRecord(t.record) // its holder's has all of the sandbox removed
	}
	return b.WriteRecord(t.record)
}

func (t *Task) mountRootfs(steps *undo.Stack) error {
	if len(t.request.Rootfs) == 0 {
		return nil
	}
	dir := t.request.Bundle.Rootfs()
	steps.Push("unmount root filesystem", func(context.Context) error { return rootfs.Unmount(dir) })
	return rootfs.Mount(t.request.Rootfs, dir)
}

// kept tells that somebody may read the root when the program has ended: commit, diff
// and cp do. brigd and Kubernetes throw it away.
func (t *Task) kept() bool {
	return !t.sandbox.pod && !t.inOwnNamespace()
}

// isSystemdPath recognises slice:prefix:name, which means a unit rather than a path.
func isSystemdPath(path string) bool {
	return strings.Count(path, ":") == 2 && !strings.HasPrefix(path, "/")
}
