package task

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"brig/internal/sandbox"
	"brig/internal/slot"
	"brig/shim/checkpoint"
	"brig/shim/gate"
	"brig/shim/runsc"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// A held sandbox waits as a slot does, but for whoever wants to go on from one checkpoint:
// it has loaded all of the image, and no task of it runs. What holds it is its root's gofer,
// which stands still: the last thing that a restore waits for are the gofer's answers. While
// it is held its kernel answers no call, so none is made, and it is ended by SIGKILL. There is
// one claim, ever, as of a slot.

// held is what a sandbox has that waits with its checkpoint loaded, or has waited. Its
// methods take nil, which is any other sandbox.
type held struct {
	gofer  *runsc.Halted
	loaded chan struct{} // closed when runsc's restore has ended
	err    error         // of it; valid then

	claimed bool // under Shim.mu
	passed  atomic.Bool
	let     atomic.Bool // it was let go on
	born    atomic.Bool // it waits, so that its end is worth telling
}

// loadTime bounds the loading of an image.
const loadTime = 50 * time.Second

func (h *held) unborn() bool { return h != nil && !h.born.Load() }

// mayStart tells that the gate has let it pass.
func (h *held) mayStart() bool { return h == nil || h.passed.Load() }

// answers tells that the sandbox's kernel takes calls.
func (h *held) answers() bool { return h == nil || h.let.Load() }

// createHeld makes a sandbox that goes on from a checkpoint, and returns when all that is
// left of that is to let it.
func (s *Shim) createHeld(ctx context.Context, r CreateRequest, spec *specs.Spec) (*Task, error) {
	if err := s.mayWait(r, spec); err != nil {
		return nil, err
	}
	if r.Streams.Terminal || spec.Annotations[sandbox.AnnotationGPU] != "" {
		return nil, fmt.Errorf("a sandbox that is held has neither a terminal nor GPUs: %w", errdefs.ErrInvalidArgument)
	}
	image, err := checkpoint.Open(r.Checkpoint)
	if err != nil {
		return nil, err
	}
	delete(spec.Annotations, sandbox.AnnotationSlot) // what it is made with from here on is the program's
	t, err := s.createToHold(ctx, r, spec, image.Slot)
	if err != nil {
		return nil, err
	}
	if err := t.hold(ctx); err != nil {
		ctx = context.WithoutCancel(ctx)
		return nil, errors.Join(fmt.Errorf("hold the sandbox: %w", err), t.stop(ctx), t.delete(ctx))
	}
	t.sandbox.held.born.Store(true)
	return t, nil
}

// createToHold makes the containers that the image has, and watches them.
func (s *Shim) createToHold(ctx context.Context, r CreateRequest, spec *specs.Spec, pair bool) (*Task, error) {
	h := &held{loaded: make(chan struct{})}
	if !pair {
		t := s.newRoot(r, spec)
		t.sandbox.held = h
		if err := t.create(ctx); err != nil {
			return nil, err
		}
		t.watchAll()
		return t, nil
	}
	root, err := s.bootLikeSlot(ctx, r, spec, false)
	if err != nil {
		return nil, err
	}
	root.sandbox.held = h
	t, err := root.sandbox.joinWith(ctx, r, spec)
	if err != nil {
		return nil, errors.Join(err, root.stop(ctx), root.delete(context.WithoutCancel(ctx)))
	}
	t.watchAll()
	return t, nil
}

// hold begins the restore and waits until it waits. The image is not trusted, and the
// sandbox's kernel reads it: so its network is closed, and watched from here on.
func (t *Task) hold(ctx context.Context) error {
	b := t.sandbox
	err := b.shim.opts.Gate.Check(ctx, b.config, gate.Request{
		Namespace: b.shim.opts.Namespace, ID: b.id(), SentryPID: b.pid(), Waiting: true, Intruded: b.intruded, Gone: b.gone,
	})
	if err != nil {
		return err
	}
	b.starter.Release()
	root := b.root
	if b.held.gofer, err = runsc.HaltGofer(root.runsc.Root, b.id(), root.id, root.request.Bundle.Dir()); err != nil {
		return err
	}
	go t.load()
	ctx, cancel := context.WithTimeout(ctx, loadTime)
	defer cancel()
	asked := make(chan error, 1)
	go func() { asked <- b.held.gofer.Asked(ctx) }()
	select {
	case err := <-asked:
		return err
	case <-b.held.loaded:
		return errors.Join(b.held.err, errors.New("the restore did not wait"))
	}
}

// load restores the sandbox and follows it to its end. One that went on without having been
// let is ended, whoever it was that let it.
func (t *Task) load() {
	b := t.sandbox
	defer func() {
		<-b.gone
		if err := errors.Join(b.held.gofer.Kill(), b.held.gofer.Close()); err != nil {
			b.shim.opts.Log.Warn("what held a sandbox", "sandbox", b.id(), "err", err)
		}
	}()
	ctx, cancel := t.whileAlive(context.Background())
	defer cancel()
	err := t.restore(ctx)
	b.held.err = err
	close(b.held.loaded)
	if !b.held.let.Load() {
		if !b.isDead() {
			b.shim.opts.Log.Error("a sandbox that is held went on, and is ended", "sandbox", b.id(), "err", err)
		}
		_ = t.conclude(failedStart) // an error means that it has ended
	}
}

// ClaimHeld has the held sandbox id be what the annotations say, ready to be started.
func (s *Shim) ClaimHeld(ctx context.Context, id string, r slot.Held) error {
	t, err := s.takeHeld(id)
	if err != nil {
		return err
	}
	b := t.sandbox
	if err := sameButNetwork(t.spec.Annotations, r.Annotations); err != nil {
		return errors.Join(err, t.conclude(failedStart))
	}
	b.trace(r.Annotations)
	spec := *t.spec
	spec.Annotations = r.Annotations
	if err := b.pass(ctx, spec.Annotations); err != nil {
		return fmt.Errorf("claim a sandbox that is held: %w", errors.Join(err, t.conclude(failedStart)))
	}
	t.spec, t.passed = &spec, true
	b.held.passed.Store(true)
	return nil
}

// takeHeld admits one claim.
func (s *Shim) takeHeld(id string) (*Task, error) {
	t, err := s.get(id)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	h := t.sandbox.held
	if h == nil || h.claimed || t.hasEnded() || t.sandbox.isDead() {
		return nil, fmt.Errorf("claim %s, which is not held: %w", id, errdefs.ErrFailedPrecondition)
	}
	h.claimed = true
	return t, nil
}

// fixed are the wishes that were granted when the sandbox was made.
var fixed = []string{
	sandbox.AnnotationPIDs, sandbox.AnnotationDiskMiB, sandbox.AnnotationSecrets, sandbox.AnnotationGPU,
	sandbox.AnnotationGPUCaps, sandbox.AnnotationSlot,
}

func sameButNetwork(made, now map[string]string) error {
	for _, key := range fixed {
		if made[key] != now[key] {
			return fmt.Errorf("annotation %s=%q of a sandbox that was made with %q: %w", key, now[key], made[key], errdefs.ErrInvalidArgument)
		}
	}
	return nil
}

// goOn lets the sandbox go on, and waits until its programs do.
func (h *held) goOn(ctx context.Context) error {
	h.let.Store(true)
	select {
	case <-h.loaded:
		return errors.Join(errors.New("what was held is not held any more"), h.err)
	default:
	}
	if err := h.gofer.Continue(); err != nil {
		return err
	}
	select {
	case <-h.loaded:
		return h.err
	case <-ctx.Done():
		return fmt.Errorf("wait for the end of the restore: %w", context.Cause(ctx))
	}
}
