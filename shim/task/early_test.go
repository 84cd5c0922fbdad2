package task

import (
	"errors"
	"maps"
	"testing"

	"brig/internal/sandbox"
	"brig/internal/slot"

	"github.com/containerd/errdefs"
)

// policy is what the claims of these tests have.
var policy = map[string]string{sandbox.AnnotationCIDRAllowlist: ""}

// The gate is asked once, before the claim, which has its word.
func TestGateOpensEarly(t *testing.T) {
	f := setUpSlot(t)
	f.must(f.OpenGate(t.Context(), f.request.ID, slot.Gate{Annotations: policy}))
	if err := f.OpenGate(t.Context(), f.request.ID, slot.Gate{}); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("a second time: %v", err)
	}
	if err := f.start(); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("a start of no program: %v", err)
	}
	<-f.tasks[f.request.ID].sandbox.slot.early.over
	if r := f.door.last; r.Waiting || r.Intruded == nil || !maps.Equal(r.Annotations, policy) {
		t.Errorf("the gate was asked %+v", r)
	}
	f.door.last.ID = "not asked again"
	out := f.claim("echo ran", nil)
	f.must(f.start())
	if f.door.last.ID != "not asked again" {
		t.Errorf("the gate was asked again: %+v", f.door.last)
	}
	f.wait("")
	f.outputIs(out, "ran\n")
	if err := f.OpenGate(t.Context(), f.request.ID, slot.Gate{}); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("after the claim: %v", err)
	}
	f.must(f.remove())
}

// A claim with other wishes than the gate was asked for fails, and so does one after a
// refusal; a slot whose claim does not come is removed.
func TestGateOpensEarlyInVain(t *testing.T) {
	claim := func(f *fixture) error {
		c := slot.Claim{Spec: f.programSpec("true"), Rootfs: f.programRoot()}
		return f.Claim(t.Context(), f.request.ID, c)
	}
	f := setUpSlot(t)
	f.must(f.OpenGate(t.Context(), f.request.ID, slot.Gate{Annotations: map[string]string{sandbox.AnnotationCIDRAllowlist: "0.0.0.0/0"}}))
	if err := claim(f); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("with other wishes: %v", err)
	}
	if err := f.start(); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("started: %v", err)
	}
	f.must(f.remove())

	f = setUpSlot(t)
	refusal := errors.New("no")
	f.door.refuse = refusal
	f.must(f.OpenGate(t.Context(), f.request.ID, slot.Gate{Annotations: policy}))
	if err := claim(f); !errors.Is(err, refusal) {
		t.Errorf("after a refusal: %v", err)
	}
	f.must(f.remove())

	f = setUpSlot(t)
	f.must(f.OpenGate(t.Context(), f.request.ID, slot.Gate{Annotations: policy}))
	f.must(f.remove())
}
