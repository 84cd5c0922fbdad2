package task

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"brig/internal/undo"
	"brig/shim/bundle"
	"brig/shim/cgroup"
	"brig/shim/runsc"
	"brig/shim/stdio"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Create makes the sandbox, ready to be started, or leaves nothing behind.
func (s *Shim) Create(ctx context.Context, r CreateRequest) (pid int, err error) {
	if err := s.reserve(r.ID); err != nil {
		return 0, err
	}
	t, err := s.create(ctx, r)
	s.mu.Lock()
	close(s.creating)
	s.creating, s.task = nil, t
	s.mu.Unlock()
	if err != nil {
		return 0, fmt.Errorf("create sandbox: %w", err)
	}
	s.opts.Emit(EventCreated{Request: r, PID: t.sentry.Pid})
	go t.watch()
	return t.sentry.Pid, nil
}

func (s *Shim) reserve(id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.creating != nil || s.task != nil {
		return fmt.Errorf("create task %s: this shim has a task: %w", id, errdefs.ErrAlreadyExists)
	}
	s.creating = make(chan struct{})
	return nil
}

func (s *Shim) create(ctx context.Context, r CreateRequest) (_ *Task, err error) {
	t := &Task{
		shim: s, request: r,
		init: newProcess("", r.Streams), gone: make(chan struct{}), execs: make(map[string]*process),
	}
	normal, err := t.plan()
	if err != nil {
		return nil, err
	}
	var steps undo.Stack
	defer steps.Undo(ctx, &err)
	if err := t.prepare(&steps, normal); err != nil {
		return nil, err
	}
	if err := t.mountRootfs(&steps); err != nil {
		return nil, err
	}
	t.runsc.Overlay = overlay(normal)
	record := bundle.Record{Namespace: s.opts.Namespace, ID: r.ID, Runsc: t.runsc}
	if !cgroup.Exists(normal.Linux.CgroupsPath) {
		record.Cgroup = normal.Linux.CgroupsPath
	}
	if err := r.Bundle.WriteRecord(record); err != nil {
		return nil, err
	}
	io, err := stdio.Open(ctx, r.Streams)
	if err != nil {
		return nil, err
	}
	steps.Push("close streams", func(context.Context) error { io.Close(); return nil })
	if err := t.boot(ctx, &steps, record, io); err != nil {
		return nil, err
	}
	steps.Release()
	io.Started()
	t.init.io = io
	return t, nil
}

// plan decides everything that can be decided without a side effect.
func (t *Task) plan() (normal *specs.Spec, err error) {
	r, cfg := t.request, t.request.Config
	if t.spec, err = r.Bundle.Spec(); err != nil {
		return nil, err
	}
	if t.spec.Process == nil || t.spec.Process.Terminal != r.Streams.Terminal {
		return nil, fmt.Errorf("the spec and the request disagree about a terminal: %w", errdefs.ErrInvalidArgument)
	}
	if t.block, err = t.shim.opts.Gate.Plan(t.spec.Annotations, cfg); err != nil {
		return nil, err
	}
	normal, err = bundle.Normalize(t.spec, bundle.Host{Bundle: r.Bundle, BlockNetwork: t.block, LowestOOMScore: lowestOOMScore()})
	if err != nil {
		return nil, err
	}
	t.runsc = runsc.For(cfg, t.shim.opts.Namespace, r.ID)
	t.runsc.SystemdCgroup = isSystemdPath(normal.Linux.CgroupsPath)
	if t.block {
		t.runsc.Network = runsc.NetworkNone
	}
	t.control = runsc.NewControl(t.runsc.Root, r.ID)
	return normal, nil
}

func (t *Task) prepare(steps *undo.Stack, normal *specs.Spec) error {
	b := t.request.Bundle
	if err := os.Mkdir(b.Dir(), 0o700); err != nil {
		return err
	}
	steps.Push("remove records", func(context.Context) error { return os.RemoveAll(b.Dir()) })
	return b.WriteSpec(normal)
}

func (t *Task) mountRootfs(steps *undo.Stack) error {
	if len(t.request.Rootfs) == 0 {
		return nil
	}
	rootfs := t.request.Bundle.Rootfs()
	if err := os.Mkdir(rootfs, 0o711); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	steps.Push("unmount root filesystem", func(context.Context) error { return Unmount(t.request.Bundle) })
	if err := mount.All(t.request.Rootfs, rootfs); err != nil {
		return fmt.Errorf("mount root filesystem: %w", err)
	}
	return nil
}

// Unmount takes the root filesystem of a bundle away, also if something still uses
// it: the sandbox is gone, and what is left in use goes with its last user.
func Unmount(b bundle.Bundle) error {
	err := mount.UnmountRecursive(b.Rootfs(), 0)
	if err != nil {
		err = mount.UnmountRecursive(b.Rootfs(), unix.MNT_DETACH)
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("unmount root filesystem: %w", err)
	}
	return nil
}

// boot runs runsc create and takes the sentry as a child. The undo comes first:
// runsc may be killed half-way.
func (t *Task) boot(ctx context.Context, steps *undo.Stack, record bundle.Record, io *stdio.IO) error {
	r, b := t.request, t.request.Bundle
	steps.Push("sweep sandbox", func(ctx context.Context) error { return Sweep(ctx, b, record) })
	err := t.runsc.Create(ctx, r.ID, runsc.CreateOptions{Bundle: b.Dir(), PIDFile: b.PIDFile(), Stdio: io.Files()})
	if err != nil {
		return err
	}
	data, err := os.ReadFile(b.PIDFile())
	if err != nil {
		return fmt.Errorf("read the sentry's pid: %w", err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil {
		return fmt.Errorf("read the sentry's pid: %w", err)
	}
	// The sentry may have died since, but it stays in the process table until watch
	// waits for it.
	if t.sentry, err = os.FindProcess(pid); err != nil {
		return fmt.Errorf("adopt the sentry: %w", err)
	}
	t.account()
	return nil
}

// account finds the sandbox's cgroup. Without one an OOM kill looks like any other,
// which is no reason to refuse a sandbox.
func (t *Task) account() {
	group, err := cgroup.Of(t.sentry.Pid)
	if err == nil {
		t.group = &group
		err = group.DieTogether()
	}
	if err == nil {
		t.ooms, err = group.OOMKills()
	}
	if err != nil {
		t.shim.opts.Log.Warn("OOM kills will not be noticed", "sandbox", t.request.ID, "err", err)
	}
}

// overlay chooses where the sandbox's writes to its root go. In the root filesystem
// itself ("self": one sparse file on the snapshot, gone with the sandbox) they are
// page cache, which the kernel can write back; in memory they would count as the
// program's against its limit. That remains for a root that cannot be written.
func overlay(spec *specs.Spec) string {
	switch {
	case spec.Root.Readonly:
		return "none"
	case unix.Access(spec.Root.Path, unix.W_OK) == nil:
		return "root:self"
	default:
		return "root:memory"
	}
}

// isSystemdPath recognises slice:prefix:name, which means a unit rather than a path.
func isSystemdPath(path string) bool {
	return strings.Count(path, ":") == 2 && !strings.HasPrefix(path, "/")
}

// lowestOOMScore that this process may give: its own, unless it has the capability
// to go below.
func lowestOOMScore() int {
	data, err := os.ReadFile("/proc/self/oom_score_adj")
	own, errNumber := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil || errNumber != nil || hasCapability(unix.CAP_SYS_RESOURCE) {
		return -1000
	}
	return own
}

func hasCapability(capability int) bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	err := unix.Capget(&header, &data[0])
	return err == nil && data[capability/32].Effective&(1<<(capability%32)) != 0
}
