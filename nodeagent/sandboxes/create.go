package sandboxes

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sync/errgroup"

	"brig/internal/failpoint"
	"brig/internal/netpolicy"
	"brig/internal/sandbox"
	"brig/internal/secrets"
	"brig/nodeagent/clock"
	"brig/nodeagent/engine"
	"brig/nodeagent/events"
	"brig/nodeagent/metrics"
	"brig/nodeagent/record"
	"brig/nodeagent/tracing"
)

// undoTimeout is how long the undoing of one sandbox may take.
const undoTimeout = time.Minute

// makeTimeout is how long a sandbox may take from its image to its start.
const makeTimeout = 2 * time.Minute

// Create makes a sandbox. It returns once the program runs, the policy is in force
// and the tunnels listen; or nothing is left of the attempt. With a request id that
// the owner has used before it returns what that one made.
func (m *Manager) Create(ctx context.Context, owner uint32, r record.Request) (_ record.Record, err error) {
	begin := time.Now()
	defer func() { m.measure(begin, err) }()
	if err := checkRestoredLimits(r); err != nil {
		return record.Record{}, err
	}
	r, err = r.Check(m.limitsOf(owner))
	if err != nil {
		return record.Record{}, err
	}
	r, from, err := m.restoring(ctx, owner, r)
	if err != nil {
		return record.Record{}, err
	}
	defer func() { from.release() }()
	policy, err := record.CompilePolicy(r.Network, m.limits.Ceiling)
	if err != nil {
		return record.Record{}, err
	}
	if err := mayMount(owner, r); err != nil {
		return record.Record{}, err
	}
	sum, err := secrets.Sum(m.cfg.SecretsDir(), r.Secrets)
	if err != nil {
		return record.Record{}, err
	}
	if err := m.awaitUndone(ctx, owner, r); err != nil {
		return record.Record{}, err
	}
	if err := m.finishUndoing(ctx, owner, r); err != nil {
		return record.Record{}, err
	}
	defer m.busy()()
	slot, why := m.takeSlot(&r, policy, from)
	for {
		if slot.ID == "" {
			if err := m.open(ctx, &from); err != nil {
				return record.Record{}, err
			}
		}
		rec, err := m.make(ctx, record.Record{
			ID: slot.ID, Address: slot.Address, Owner: owner, Request: r, State: sandbox.Creating, CreatedAt: time.Now().UTC(),
			JournalBytes: m.cfg.Sandboxes.JournalBytes, SecretsSum: sum,
		}, slot, policy, from)
		if !isSpent(err) {
			if err == nil {
				m.metrics.Claimed(why)
			}
			return rec, err
		}
		m.log.Warn("a sandbox that waited could not be used, and another is booted", "sandbox", slot.ID, "err", err)
		slot, why = record.Slot{}, metrics.ColdSpent
	}
}

// make makes the sandbox of a record, of the slot if there is one. If that could not be
// used the error isSpent, and nothing is left of the attempt.
func (m *Manager) make(ctx context.Context, rec record.Record, slot record.Slot, policy netpolicy.Policy, from origin) (record.Record, error) {
	r, owner, add := rec.Request, rec.Owner, m.store.Claim
	giveBack := func() { m.pool.Return(slot) }
	if slot.ID == "" {
		rec.ID, add, giveBack = sandbox.NewID(), m.store.Add, func() {}
	}
	release, err := m.take(rec)
	if err == nil {
		rec.GPUs, err = m.allot(ctx, rec)
	}
	if err != nil {
		release()
		giveBack()
		return m.repeatOr(ctx, rec, err)
	}
	rec.Writing(r.Network, policy)
	making := ctx
	if r.RequestID != "" {
		// The client can come back for it, so its going away is no reason to stop.
		making = context.WithoutCancel(ctx)
	}
	making, abort := context.WithCancelCause(making)
	defer abort(nil)
	k := m.addKeeper(rec, abort)
	k.release = release
	k.from, k.slot = from, slot.ID != ""
	_, done := m.phase(ctx, metrics.PhaseRecord)
	earlier, err := add(rec)
	if err = done(err); err != nil || earlier != nil {
		m.returnGPUs(rec.ID)
		m.dropKeeper(k)
		if errdefs.IsFailedPrecondition(err) {
			err = k.spoiled(err) // it is not on record, and what is left of it is nobody's
		} else {
			giveBack()
		}
	}
	switch {
	case err != nil:
		return record.Record{}, err
	case earlier != nil:
		return m.repeat(ctx, earlier, rec)
	}
	failpoint.Hit("create.recorded")
	rec, err = m.create(making, k, rec, policy)
	if err != nil {
		if cause := context.Cause(making); errdefs.IsAborted(cause) {
			err = cause // what it made of the step under way does not matter
		}
		m.log.Info("sandbox not made", "sandbox", rec.ID, "err", err)
		k.fault = errors.Join(err, m.scrap(rec.ID))
		m.dropKeeper(k)
		close(k.ready)
		close(k.ended)
		close(k.clean)
		return record.Record{}, k.fault
	}
	close(k.ready)
	m.log.Info("sandbox runs", "sandbox", rec.ID, "owner", owner, "image", r.Image)
	m.publish(k, events.Event{Created: &events.Created{Name: r.Name, Image: r.Image}})
	m.wg.Go(func() { m.keep(k, rec) })
	return rec, nil
}

// repeat answers a request whose id was used before.
func (m *Manager) repeat(ctx context.Context, earlier *record.Record, rec record.Record) (record.Record, error) {
	was, err := earlier.Request.Digest()
	if err != nil {
		return record.Record{}, err
	}
	now, err := rec.Request.Digest()
	if err != nil {
		return record.Record{}, err
	}
	// One that was made before the machine's restart has ended; its sum says nothing now.
	comparable := earlier.Deadline.Boot == m.boot || earlier.State == sandbox.Creating
	if was != now || comparable && earlier.SecretsSum != rec.SecretsSum {
		return record.Record{}, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("request_id %s was used for another request, which made %s: choose another one", rec.Request.RequestID, earlier.ID))
	}
	k := m.keeper(earlier.ID)
	if stillborn(earlier) {
		return record.Record{}, stillUndoing(earlier.ID, nil)
	}
	if earlier.State != sandbox.Creating || k == nil {
		return m.store.Get(earlier.ID)
	}
	select {
	case <-k.ready:
	case <-ctx.Done():
		return record.Record{}, context.Cause(ctx)
	}
	if k.fault != nil {
		return record.Record{}, k.fault
	}
	return m.store.Get(earlier.ID)
}

// create makes everything that the record says. What it made before an error is left
// for scrap.
func (m *Manager) create(ctx context.Context, k *keeper, rec record.Record, policy netpolicy.Policy) (record.Record, error) {
	id := string(rec.ID)
	tracing.About(ctx, id)
	part, done := m.phase(ctx, metrics.PhaseImage)
	image, err := m.ensure(part, &rec)
	if done(err) != nil {
		return rec, err
	}
	failpoint.Hit("create.image")
	// What follows is short, and undone more easily when it has ended than half-way.
	caller := ctx
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), makeTimeout)
	defer cancel()
	var netns string
	switch {
	case k.slot:
		netns = m.network.Namespace(id)
	case !policy.Blocked():
		if netns, err = m.network.Prepare(id); err != nil {
			return rec, err
		}
	}
	if err := m.writeFiles(&rec, policy); err != nil {
		return rec, err
	}
	failpoint.Hit("create.files")
	spec := k.from.into(m.spec(&rec, netns))
	spec.Image = image
	if spec.Mounts, err = m.mount(&rec); err != nil {
		return rec, err
	}
	spec.Traced, spec.Held = tracing.Traced(ctx), k.slot && rec.Request.Checkpoint != ""
	creating, address, err := m.build(ctx, k, &rec, spec, policy)
	if err != nil {
		return rec, k.spoiled(err)
	}
	failpoint.Hit("create.made")
	begin := time.Now()
	starting, done := m.phase(ctx, metrics.PhaseStart)
	if err := done(m.runtime.Start(starting, spec)); err != nil {
		if spec.Held {
			return rec, err // something of it may have run
		}
		return rec, k.spoiled(err)
	}
	if spec.Traced {
		m.addShim(creating, starting, begin, rec.ID)
	}
	failpoint.Hit("create.started")
	if address.IsValid() {
		// What the gate bound is what tunnels are judged by.
		stands, err := m.rules.Standing(id)
		if err != nil {
			return rec, err
		}
		k.stand(stands)
	}
	_, done = m.phase(ctx, metrics.PhaseTunnels)
	tunnels, err := m.openAll(k, &rec)
	if done(err) != nil {
		return rec, err
	}
	failpoint.Hit("create.tunnels")
	if rec.Request.Ready != nil {
		probing, done := m.phase(caller, metrics.PhaseReady)
		if err := done(m.awaitReady(probing, &rec)); err != nil {
			return rec, err
		}
	}
	failpoint.Hit("create.ready")
	if caller.Err() != nil {
		return rec, context.Cause(caller) // nobody waits for it
	}
	if err := m.keepActivity(k, rec); err != nil {
		return rec, err
	}
	return m.settle(k, address, tunnels)
}

// build has the sandbox made, up to its start, while it is connected: its kernel reads what
// the network namespace holds at the start. It returns the span of the making.
// A slot is connected already.
func (m *Manager) build(ctx context.Context, k *keeper, rec *record.Record, spec engine.Sandbox, policy netpolicy.Policy) (creating context.Context, address netip.Addr, err error) {
	if k.slot {
		creating, done := m.phase(ctx, metrics.PhaseContainer)
		return creating, rec.Address, done(m.handOver(creating, rec, spec, true))
	}
	var both errgroup.Group // without its context: one is undone more easily when the other has ended, too
	if spec.Netns != "" {
		both.Go(func() (err error) {
			connecting, done := m.phase(ctx, metrics.PhaseNetwork)
			address, err = m.network.Attach(connecting, spec.ID, policy)
			failpoint.Hit("create.attached")
			return done(err)
		})
	}
	creating, done := m.phase(ctx, metrics.PhaseContainer)
	both.Go(func() error { return done(m.handOver(creating, rec, spec, false)) })
	if err := both.Wait(); err != nil || spec.Netns == "" {
		return creating, address, err
	}
	rec.Address = address
	return creating, address, m.writeHosts(rec)
}

// settle records that the sandbox runs. Its time begins here: a slow pull costs it
// nothing.
func (m *Manager) settle(k *keeper, address netip.Addr, tunnels []record.Tunnel) (record.Record, error) {
	id := k.id
	now, err := clock.Now()
	if err != nil {
		return record.Record{ID: id}, err
	}
	rec, err := m.store.Update(id, func(r *record.Record) error {
		state, err := r.State.Move(sandbox.Running)
		if err != nil {
			return err
		}
		r.State, r.Address, r.Tunnels = state, address, tunnels
		if address.IsValid() {
			r.Stands(k.standing(), m.boot)
		}
		r.Deadline = record.Deadline{
			Wall: time.Now().Add(r.Request.Timeout).UTC(),
			Boot: m.boot,
			At:   now + r.Request.Timeout,
		}
		return nil
	})
	if err != nil {
		return record.Record{ID: id}, fmt.Errorf("record that the sandbox runs: %w", err)
	}
	failpoint.Hit("create.settled")
	return rec, nil
}

// scrap undoes a sandbox that was not made, and forgets it. If something resists, the
// record stays, ended, and teardown goes on later.
func (m *Manager) scrap(id sandbox.ID) error {
	ctx, cancel := context.WithTimeout(context.Background(), undoTimeout)
	defer cancel()
	err := m.teardown(ctx, id)
	if err == nil {
		m.returnGPUs(id)
		err = m.forget(id)
	}
	if err == nil {
		return nil
	}
	m.log.Error("undo a sandbox", "sandbox", id, "err", err)
	_, errEnd := m.store.Update(id, func(r *record.Record) error {
		return r.End(record.ReasonExit(sandbox.ReasonStartFailed, time.Now().UTC()))
	})
	m.mark(id)
	return errors.Join(err, errEnd)
}
