// Package slot is what brigd and a shim tell one another about a sandbox that waits, with
// a kernel that runs and a network that lets nothing through, for a program to be given.
// Values only, no I/O.
//
// A shim makes one of a spec that has sandbox.AnnotationSlot. The program comes once, as
// the payload of the Task API's Update, which containerd hands on unread; it is started by
// the Task API's Start, like any other. With a checkpoint to go on from it makes one that is
// held instead, which needs no program: it learns what is Held.
package slot

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// TypeURL names the payload.
const TypeURL = "io.containerd.brig.v1/Claim"

// HeldURL names the payload of a sandbox that is held: it goes on from a checkpoint, all of
// which it has loaded.
const HeldURL = "io.containerd.brig.v1/Held"

// Held is what a held sandbox learns before its start.
type Held struct {
	// Annotations of its container from now on.
	Annotations map[string]string `json:"annotations,omitempty"`
}

// Encode returns the payload.
func (h Held) Encode() ([]byte, error) { return json.Marshal(h) }

// DecodeHeld reads a payload, refusing a field that it does not know.
func DecodeHeld(payload []byte) (h Held, err error) {
	if err := decode(payload, &h); err != nil {
		return Held{}, fmt.Errorf("claim of a sandbox that is held: %w", err)
	}
	return h, nil
}

// Claim is the program that a slot is for from now on.
type Claim struct {
	// Spec of its container, limits of the sandbox included.
	Spec *specs.Spec `json:"spec"`
	// Rootfs are the mounts of its root filesystem, at least one.
	Rootfs []Mount `json:"rootfs"`
	// Streams, by the names under which the shim opens them; empty: none.
	Stdin    string `json:"stdin,omitempty"`
	Stdout   string `json:"stdout,omitempty"`
	Stderr   string `json:"stderr,omitempty"`
	Terminal bool   `json:"terminal,omitempty"`
}

// Mount of a root filesystem.
type Mount struct {
	Type    string   `json:"type"`
	Source  string   `json:"source"`
	Target  string   `json:"target,omitempty"`
	Options []string `json:"options,omitempty"`
}

// Encode returns the payload.
func (c Claim) Encode() ([]byte, error) { return json.Marshal(c) }

// Decode reads a payload, refusing a field that it does not know.
func Decode(payload []byte) (Claim, error) {
	var c Claim
	if err := decode(payload, &c); err != nil {
		return Claim{}, fmt.Errorf("claim of a slot: %w", err)
	}
	switch {
	case c.Spec == nil || c.Spec.Process == nil || c.Spec.Linux == nil:
		return Claim{}, errors.New("claim of a slot: there is no program in it")
	case len(c.Rootfs) == 0:
		return Claim{}, errors.New("claim of a slot: rootfs is missing")
	case c.Spec.Process.Terminal != c.Terminal:
		return Claim{}, errors.New("claim of a slot: spec and streams disagree about a terminal")
	}
	return c, nil
}

// GateTypeURL names the payload of what may come before a claim, once.
const GateTypeURL = "io.containerd.brig.v1/Gate"

// Gate is what the gate of a sandbox needs to know of the program that will come: with it
// the policy is bound while the program is still being prepared. The claim has the same.
type Gate struct {
	Annotations map[string]string `json:"annotations"`
}

// Encode returns the payload.
func (g Gate) Encode() ([]byte, error) { return json.Marshal(g) }

// DecodeGate reads a payload, refusing a field that it does not know.
func DecodeGate(payload []byte) (g Gate, err error) {
	if err := decode(payload, &g); err != nil {
		return Gate{}, fmt.Errorf("gate of a slot: %w", err)
	}
	return g, nil
}

// decode is strict: what it does not know would be dropped.
func decode(payload []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(payload))
	d.DisallowUnknownFields()
	return d.Decode(v)
}
