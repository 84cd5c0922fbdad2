package sandboxes

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/containerd/errdefs"

	"brig/internal/netpolicy"
	"brig/internal/phases"
	"brig/internal/sandbox"
	"brig/nodeagent/checkpoints"
	"brig/nodeagent/record"
)

// A held sandbox is a slot that has loaded a checkpoint and waits just before it goes on. It
// is made as a restore is, for a request with nothing in it that can be given later: only
// requests that are the same but for that take it.

// maxHoldable bounds the requests that are remembered. Beyond it any of them is forgotten,
// and asked for again it is there again.
const maxHoldable = 256

// dropTime bounds how long the removal of a checkpoint waits for one that is being held.
const dropTime = 10 * time.Second

// holdable tells what a slot has to hold for r, if one can, and remembers how it is made.
func (m *Manager) holdable(r *record.Request, from origin) (held record.Held, ok bool, err error) {
	if from.checkpoint == nil || !mayBeHeld(r) {
		return held, false, nil
	}
	request := lasting(*r)
	held = record.Held{Owner: from.checkpoint.Owner, Checkpoint: from.checkpoint.Name}
	if held.Image, err = imageSum(*from.checkpoint); err != nil {
		return held, false, err
	}
	if held.Request, err = request.Digest(); err != nil {
		return held, false, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.holdables) >= maxHoldable {
		clear(m.holdables)
	}
	m.holdables[held] = request
	return held, true, nil
}

// mayBeHeld refuses what belongs to one sandbox alone, and is there from its start: its name,
// which is its hostname, what it reads and who it is. The files of others are looked at when
// they are asked for.
func mayBeHeld(r *record.Request) bool {
	bound := func(m record.Mount) bool { return m.Source != "" }
	return r.Name == "" && len(r.Secrets) == 0 && !r.Stdin && !r.TTY && r.GPU == nil && !slices.ContainsFunc(r.Mounts, bound)
}

// lasting is r without what a sandbox can be given when it is claimed.
func lasting(r record.Request) record.Request {
	r.RequestID, r.Tags, r.Network, r.Ports = "", nil, netpolicy.Spec{}, nil
	r.Timeout, r.IdleTimeout, r.Ready = 0, 0, nil
	return r
}

// imageSum tells a checkpoint from another one that had, or will have, its name.
func imageSum(c checkpoints.Manifest) (string, error) {
	data, err := json.Marshal(c)
	if err != nil {
		return "", fmt.Errorf("digest of a checkpoint: %w", err)
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:]), nil
}

// dropHeld has nothing be held of a checkpoint any more.
func (m *Manager) dropHeld(owner uint32, name string) error {
	if m.pool == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(m.ctx, dropTime)
	defer cancel()
	if err := m.pool.Forget(ctx, func(s record.Shape) bool { return s.Held.Owner == owner && s.Held.Checkpoint == name }); err != nil {
		return fmt.Errorf("checkpoint %s is being loaded, try again: %w: %w", name, errdefs.ErrUnavailable, err)
	}
	return nil
}

// Restorer makes the slots that go on from a checkpoint.
type Restorer struct{ m *Manager }

// Restorer of the manager's checkpoints.
func (m *Manager) Restorer() Restorer { return Restorer{m} }

// Restore makes a sandbox, up to its start, that has loaded the slot's checkpoint. What it
// made before an error goes with the slot.
func (r Restorer) Restore(ctx context.Context, s record.Slot, netns string) error {
	m, held := r.m, s.Shape.Held
	m.mu.Lock()
	request, known := m.holdables[held]
	m.mu.Unlock()
	if !known {
		return errdefs.ErrNotFound.WithMessage("nobody has asked for it for long")
	}
	c, err := r.find(held)
	if err != nil {
		return err
	}
	if err := m.checkRestore(ctx, c); err != nil {
		return err
	}
	from := origin{checkpoint: &c, digest: c.ImageDigest, release: func() {}}
	if err := m.open(ctx, &from); err != nil {
		return err
	}
	defer from.release()
	rec := record.Record{ID: s.ID, Address: s.Address, Request: request, JournalBytes: m.cfg.Sandboxes.JournalBytes}
	image, err := m.ensure(ctx, &rec)
	if err != nil {
		return err
	}
	if err := m.writeFiles(&rec, netpolicy.Open()); err != nil {
		return err
	}
	spec := from.into(m.spec(&rec, netns))
	spec.Image, spec.Waits = image, true
	if spec.Mounts, err = m.mount(&rec); err != nil {
		return err
	}
	return m.runtime.Create(ctx, spec)
}

// find is the very checkpoint that was asked for.
func (r Restorer) find(held record.Held) (checkpoints.Manifest, error) {
	c, err := r.m.checkpoints.Find(held.Owner, held.Checkpoint)
	if err != nil {
		return c, err
	}
	sum, err := imageSum(c)
	if err == nil && (sum != held.Image || c.Owner != held.Owner) {
		err = errdefs.ErrNotFound.WithMessage(fmt.Sprintf("checkpoint %s is another one by now", held.Checkpoint))
	}
	return c, err
}

// Restorable tells that the checkpoint is there, and is that one.
func (r Restorer) Restorable(held record.Held) bool {
	_, err := r.find(held)
	return err == nil
}

// Clear removes the slot's files.
func (r Restorer) Clear(id sandbox.ID) error {
	return errors.Join(
		r.m.binds.Remove(string(id)), phases.Remove(r.m.cfg.PhasesFile(r.m.cfg.Containerd.Namespace, string(id))),
		os.RemoveAll(r.m.cfg.JournalDir(string(id))),
	)
}
