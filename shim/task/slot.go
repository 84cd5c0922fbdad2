package task

import (
	"context"
	"errors"
	"fmt"
	"os"

	"brig/internal/phases"
	"brig/internal/sandbox"
	"brig/internal/slot"
	"brig/shim/bundle"
	"brig/shim/cgroup"
	"brig/shim/gate"
	"brig/shim/rootfs"
	"brig/shim/runsc"
	"brig/shim/stdio"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// A slot is a sandbox that waits for its program. Its root container is a holder that
// containerd does not see. What containerd sees is one task, made before there is a
// program: it cannot be started until it has been claimed, and the program that it is
// then given is a container which joins. There is one claim, ever: a slot whose claim has
// failed is good for nothing but to be deleted.

// waiting is what a slot has beyond other sandboxes.
type waiting struct {
	task    *Task      // what containerd sees until the claim; nil: it was there from the first
	program chan *Task // gets the task that is in its place since; room for it
	// standby is for the program's container; nil: there is none, or not any more.
	standby *runsc.Standby
	// released is closed when that one and its gofer, which is in the sandbox's group, have
	// ended; nil: there was none.
	released chan struct{}
	early    *early // the gate's word before the claim; under Shim.mu

	claimed bool          // under Shim.mu
	over    chan struct{} // closed when the claim has ended
}

// holderUser is nobody's in any image, so that the holder's threads do not count among a
// user's. The last one that there is means "no change" to system calls.
const holderUser = 1<<32 - 2

// createSlot boots the sandbox and lets its holder start, under a network that lets nothing
// through. It returns the task without a program.
func (s *Shim) createSlot(ctx context.Context, r CreateRequest, spec *specs.Spec) (_ *Task, err error) {
	if err := s.mayWait(r, spec); err != nil {
		return nil, err
	}
	if len(r.Rootfs) > 0 || spec.Linux == nil {
		return nil, fmt.Errorf("a slot has no root filesystem yet: %w", errdefs.ErrInvalidArgument)
	}
	root, err := s.bootSlot(ctx, r, spec, false)
	if err != nil {
		return nil, err
	}
	t := newTask(root.sandbox, CreateRequest{ID: r.ID, Bundle: root.request.Bundle, Config: r.Config})
	t.spec = spec
	root.sandbox.slot.task = t
	if t.init.io, err = stdio.Open(ctx, stdio.Config{}); err == nil {
		err = root.start(ctx)
	}
	if err == nil {
		err = root.sandbox.enter()
	}
	if err != nil {
		return nil, errors.Join(err, root.stop(ctx), root.delete(context.WithoutCancel(ctx)))
	}
	root.standBy(r.Bundle)
	return t, nil
}

// mayWait refuses a sandbox that waits to all but brigd.
func (s *Shim) mayWait(r CreateRequest, spec *specs.Spec) error {
	if spec.Annotations[sandbox.AnnotationSlot] != "true" || s.opts.Namespace != r.Config.Containerd.Namespace {
		return fmt.Errorf("annotation %s is for brigd alone, and true: %w", sandbox.AnnotationSlot, errdefs.ErrPermissionDenied)
	}
	return nil
}

// standBy has a runsc loaded for the program that will come, as most of them need it. Where
// that fails the program's is executed when it comes.
func (t *Task) standBy(b bundle.Bundle) {
	like := t.runsc
	like.Overlay = rootfs.OverlaySelf
	if n := t.sandbox.config.Sandboxes.DiskMiB; n > 0 {
		like.Overlay = limited(like.Overlay, n)
	}
	standby, err := like.StandBy(runsc.ClaimedID(t.id), b.Dir(), t.request.Bundle.Dir())
	if err != nil {
		t.sandbox.shim.opts.Log.Warn("no runsc stands by", "sandbox", t.id, "err", err)
		return
	}
	released := make(chan struct{})
	t.sandbox.slot.standby, t.sandbox.slot.released = standby, released
	go func() {
		defer close(released)
		<-t.sandbox.gone
		standby.Release()
	}()
}

// createStreamed has the runsc that stands by create the container, if it is one for this.
func (t *Task) createStreamed(ctx context.Context, io *stdio.IO, o runsc.CreateOptions) error {
	if w := t.sandbox.slot; w != nil && w.standby != nil {
		standby := w.standby
		w.standby = nil
		if !standby.Fits(&t.runsc) || t.request.Checkpoint != "" {
			standby.Release()
		} else if done, err := standby.Create(ctx, io.Files()); done {
			t.standby = standby
			return err
		}
	}
	return t.runsc.Create(ctx, t.id, o)
}

// createLikeSlot makes a sandbox of the shape that its image has: of one that had waited.
// The program is there at once, and nothing runs before its start.
func (s *Shim) createLikeSlot(ctx context.Context, r CreateRequest, spec *specs.Spec) (*Task, error) {
	block, err := s.opts.Gate.Plan(spec.Annotations, r.Config)
	if err != nil {
		return nil, err
	}
	root, err := s.bootLikeSlot(ctx, r, spec, block)
	if err != nil {
		return nil, err
	}
	if spec.Annotations[sandbox.AnnotationTrace] != "" {
		root.sandbox.phases = &phases.Recorder{}
	}
	program, err := root.sandbox.joinWith(ctx, r, spec)
	if err != nil {
		return nil, errors.Join(err, root.stop(ctx), root.delete(context.WithoutCancel(ctx)))
	}
	return program, nil
}

// bootLikeSlot makes the holder of one.
func (s *Shim) bootLikeSlot(ctx context.Context, r CreateRequest, spec *specs.Spec, block bool) (*Task, error) {
	if spec.Linux == nil {
		return nil, fmt.Errorf("OCI spec without linux section: %w", errdefs.ErrInvalidArgument)
	}
	root, err := s.bootSlot(ctx, r, spec, block)
	if err != nil {
		return nil, err
	}
	root.sandbox.slot.claimed = true
	return root, nil
}

// bootSlot makes a sandbox with its holder, which is not started, with a network or none.
func (s *Shim) bootSlot(ctx context.Context, r CreateRequest, spec *specs.Spec, block bool) (*Task, error) {
	if err := r.Bundle.MakeSlot(); err != nil {
		return nil, err
	}
	root := s.newSlot(r, spec)
	root.sandbox.block = block
	if err := root.create(ctx); err != nil {
		return nil, errors.Join(err, r.Bundle.RemoveSlot())
	}
	root.watchAll()
	return root, nil
}

// newSlot returns the holder.
func (s *Shim) newSlot(r CreateRequest, spec *specs.Spec) *Task {
	b := r.Bundle.Slot()
	held := b.PodSpec(bundle.Pod{ID: r.ID, Hostname: spec.Hostname, Resources: spec.Linux.Resources}, r.Config.Idle())
	held.Linux.CgroupsPath, held.Linux.Namespaces = spec.Linux.CgroupsPath, spec.Linux.Namespaces
	held.Process.User = specs.User{UID: holderUser, GID: holderUser}
	root := s.newRoot(CreateRequest{ID: r.ID, Bundle: b, Config: r.Config}, held)
	root.sandbox.slot = &waiting{program: make(chan *Task, 1), over: make(chan struct{})}
	return root
}

// isWaiting tells that the task is the one without a program.
func (t *Task) isWaiting() bool { return t.sandbox.slot != nil && t.sandbox.slot.task == t }

// watchWaiting follows a task without a program until it has one; then its end is that
// one's, for whoever asked before.
func (t *Task) watchWaiting() {
	select {
	case <-t.sandbox.slot.over:
	case <-t.ended:
	case <-t.sandbox.gone:
	}
	program := t.becomes()
	if program == nil {
		t.watch()
		return
	}
	defer t.sandbox.joined.Done()
	<-program.init.exited
	_, exit := program.init.look()
	t.init.stop(exit)
	close(t.init.exited)
}

// becomes waits for a claim under way and returns the task that has taken t's place; nil:
// none has. Of what has ended no claim begins.
func (t *Task) becomes() *Task {
	s, w := t.sandbox.shim, t.sandbox.slot
	s.mu.Lock()
	claimed := w.claimed
	s.mu.Unlock()
	if claimed {
		<-w.over
	}
	select {
	case program := <-w.program:
		return program
	default:
	}
	select { // a claim that failed leaves what waited
	case <-t.ended:
	case <-t.sandbox.gone:
	}
	return nil
}

// Claim gives the slot id its program, ready to be started. The sandbox is held to the
// limits of the program's spec from then on.
func (s *Shim) Claim(ctx context.Context, id string, c slot.Claim) error {
	t, err := s.takeSlot(id)
	if err != nil {
		return err
	}
	defer close(t.sandbox.slot.over)
	b := t.sandbox
	b.trace(c.Spec.Annotations)
	// None of these waits for another, and the program starts after all of them.
	passed := together(func() error { return b.passes(ctx, c.Spec) }, func() error { return b.name(ctx, c.Spec) })
	joined := b.phases.Begin("shim: runsc create")
	program, err := b.joinWith(ctx, t.claimedBy(c), c.Spec)
	joined()
	if err != nil {
		return fmt.Errorf("claim slot: %w", errors.Join(err, passed()))
	}
	err = passed()
	program.passed = err == nil
	program.replace(s)
	go program.watch()
	if err != nil {
		return fmt.Errorf("claim slot: %w", errors.Join(err, program.conclude(failedStart)))
	}
	return nil
}

// together begins all; done waits for them.
func together(all ...func() error) (done func() error) {
	ended := make(chan error, len(all))
	for _, one := range all {
		go func() { ended <- one() }()
	}
	return func() (err error) {
		for range all {
			err = errors.Join(err, <-ended)
		}
		return err
	}
}

// pass has the gate's last word for a program with annotations. From then on the namespace is
// watched, so that nothing comes between it and the start.
func (b *Sandbox) pass(ctx context.Context, annotations map[string]string) error {
	defer b.phases.Begin("shim: gate")()
	return b.shim.opts.Gate.Check(ctx, b.config, gate.Request{
		Namespace: b.shim.opts.Namespace, ID: b.id(), SentryPID: b.pid(),
		Annotations: annotations, Intruded: b.intruded, Gone: b.gone,
	})
}

// name gives the sandbox the hostname of a program's spec: a container that joins has the
// root container's, and only a program inside can change it.
func (b *Sandbox) name(ctx context.Context, spec *specs.Spec) error {
	if spec.Hostname == b.root.spec.Hostname {
		return nil
	}
	return b.setHostname(ctx, spec.Hostname)
}

func (b *Sandbox) setHostname(ctx context.Context, name string) error {
	b.named.Store(true)
	admin := []string{"CAP_SYS_ADMIN"}
	args, err := runsc.NewExecArgs(b.id(), &specs.Process{
		Args: []string{b.root.spec.Process.Args[0], "hostname", name}, Cwd: "/",
		Capabilities: &specs.LinuxCapabilities{Permitted: admin, Effective: admin, Bounding: admin},
	}, nil)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	nothing, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer nothing.Close()
	pid, err := b.control.Exec(ctx, args, [3]*os.File{nothing, nothing, nothing})
	if err != nil {
		return fmt.Errorf("set the hostname: %w", err)
	}
	status, err := b.control.WaitPID(ctx, b.id(), pid)
	if err == nil && status != 0 {
		err = fmt.Errorf("status %d", exitStatus(status))
	}
	if err != nil {
		return fmt.Errorf("set the hostname: %w", err)
	}
	return nil
}

// takeSlot admits one claim.
func (s *Shim) takeSlot(id string) (*Task, error) {
	t, err := s.get(id)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	w := t.sandbox.slot
	if w == nil || w.claimed || t.hasEnded() || t.sandbox.isDead() {
		return nil, fmt.Errorf("claim %s, which does not wait for a program: %w", id, errdefs.ErrFailedPrecondition)
	}
	w.claimed = true
	return t, nil
}

// claimedBy is the create of the program's container.
func (t *Task) claimedBy(c slot.Claim) CreateRequest {
	r := t.request
	r.Bundle = r.Bundle.OfSlot()
	r.Streams.Stdin, r.Streams.Stdout, r.Streams.Stderr, r.Streams.Terminal = c.Stdin, c.Stdout, c.Stderr, c.Terminal
	r.Rootfs = make([]mount.Mount, len(c.Rootfs))
	for i, m := range c.Rootfs {
		r.Rootfs[i] = mount.Mount{Type: m.Type, Source: m.Source, Target: m.Target, Options: m.Options}
	}
	return r
}

// replace puts the program in the place of the task that waited.
func (t *Task) replace(s *Shim) {
	s.mu.Lock()
	s.tasks[t.request.ID] = t
	s.mu.Unlock()
	t.sandbox.slot.program <- t
}

// limit holds the whole sandbox to what the program's spec says.
func (t *Task) limit() error {
	if !t.isSole() {
		return nil
	}
	if err := cgroup.Unchangeable(resources(t.sandbox.root.spec), resources(t.spec)); err != nil {
		return err
	}
	if _, err := t.sandbox.hold(resources(t.spec)); err != nil {
		return err
	}
	return t.limitThreads()
}

// freeSlot ends the sandbox of a task that has one of its own, and frees its holder.
func (t *Task) freeSlot(ctx context.Context) error {
	if t.isRoot() || !t.isSole() {
		return nil
	}
	root := t.sandbox.root
	if err := root.stop(ctx); err != nil {
		return err
	}
	if err := t.sandbox.closeGate(ctx); err != nil {
		return err
	}
	if released := t.sandbox.slot.released; released != nil {
		select {
		case <-released:
		case <-ctx.Done():
			return fmt.Errorf("wait for the end of the runsc that stood by: %w", context.Cause(ctx))
		}
	}
	if err := root.delete(ctx); err != nil && !errdefs.IsNotFound(err) {
		return err
	}
	return nil
}
