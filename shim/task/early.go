package task

import (
	"context"
	"fmt"
	"maps"
	"strings"

	"brig/internal/phases"
	"brig/internal/sandbox"
	"brig/internal/slot"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// early is the gate's last word, asked for before there is a program: it needs the wishes
// alone. The claim that follows must have the same, and waits for it.
type early struct {
	annotations map[string]string
	over        chan struct{} // closed when it is there
	err         error         // valid then
}

// OpenGate asks for the gate's word for the claim of slot id that is about to come, once.
// What it has bound goes with the sandbox, as after a claim that fails.
func (s *Shim) OpenGate(ctx context.Context, id string, g slot.Gate) error {
	t, err := s.get(id)
	if err != nil {
		return err
	}
	e := &early{annotations: g.Annotations, over: make(chan struct{})}
	b := t.sandbox
	s.mu.Lock()
	defer s.mu.Unlock()
	w := b.slot
	if w == nil || w.claimed || w.early != nil || t.hasEnded() || b.isDead() {
		return fmt.Errorf("open the gate for %s, which does not wait for a program: %w", id, errdefs.ErrFailedPrecondition)
	}
	w.early = e
	b.trace(g.Annotations)
	// The caller hears of it with the claim.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTime)
	go func() {
		defer cancel()
		defer close(e.over)
		e.err = b.pass(ctx, g.Annotations)
	}()
	return nil
}

// passes has the gate's last word for the program of spec, which was perhaps asked for.
func (b *Sandbox) passes(ctx context.Context, spec *specs.Spec) error {
	b.shim.mu.Lock()
	e := b.slot.early
	b.shim.mu.Unlock()
	if e == nil {
		return b.pass(ctx, spec.Annotations)
	}
	if !maps.Equal(wishes(e.annotations), wishes(spec.Annotations)) {
		return fmt.Errorf("the gate was asked for other wishes than the program's: %w", errdefs.ErrFailedPrecondition)
	}
	select {
	case <-e.over:
		return e.err
	case <-ctx.Done():
		return fmt.Errorf("wait for the gate: %w", context.Cause(ctx))
	}
}

// closeGate waits until nothing is bound any more for a sandbox that is being removed.
func (b *Sandbox) closeGate(ctx context.Context) error {
	b.shim.mu.Lock()
	e := b.slot.early
	b.shim.mu.Unlock()
	if e == nil {
		return nil
	}
	select {
	case <-e.over:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for the gate: %w", context.Cause(ctx))
	}
}

// wishes are the annotations that are brig's.
func wishes(annotations map[string]string) map[string]string {
	own := maps.Clone(annotations)
	maps.DeleteFunc(own, func(key, _ string) bool { return !strings.HasPrefix(key, sandbox.AnnotationPrefix) })
	return own
}

// trace records what is done from here on, if that is asked for.
func (b *Sandbox) trace(annotations map[string]string) {
	if annotations[sandbox.AnnotationTrace] != "" && b.phases == nil {
		b.phases = &phases.Recorder{}
	}
}
