package sandboxes

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/containerd/errdefs"

	"brig/internal/failpoint"
	"brig/internal/netpolicy"
	"brig/internal/sandbox"
	"brig/nodeagent/clock"
	"brig/nodeagent/events"
	"brig/nodeagent/metrics"
	"brig/nodeagent/record"
)

// The bounds of a lease.
const (
	minLease = time.Second
	maxLease = 24 * time.Hour
)

// changeTimeout is how long a change may take once it has begun, with nobody waiting.
const changeTimeout = time.Minute

// Change of a policy.
type Change struct {
	Spec netpolicy.Spec
	// Expected generation in force; 0: any.
	Expected uint64
	// Lease: for how long; 0: for good.
	Lease time.Duration
}

// SetPolicy replaces a running sandbox's policy and returns once the new one is in
// force. What its writer wrote is on record before the deed, so that a brigd that dies
// meanwhile knows the words of whatever stands.
func (m *Manager) SetPolicy(ctx context.Context, rec record.Record, c Change) (Policy, error) {
	p, err := m.setPolicy(ctx, rec, c)
	switch {
	case err == nil:
		m.metrics.PolicyChange(metrics.Changed)
	case errdefs.IsInvalidArgument(err) || errdefs.IsFailedPrecondition(err) || errdefs.IsAborted(err):
		m.metrics.PolicyChange(metrics.Refused)
	default:
		m.metrics.PolicyChange(metrics.Failed)
	}
	return p, err
}

func (m *Manager) setPolicy(ctx context.Context, rec record.Record, c Change) (Policy, error) {
	policy, err := m.checkChange(rec, c)
	if err != nil {
		return Policy{}, err
	}
	k, err := m.running(rec.ID)
	if err != nil {
		return Policy{}, err
	}
	if !rec.Address.IsValid() {
		return m.setNothing(rec, policy, c)
	}
	select {
	case k.changing <- struct{}{}:
		defer func() { <-k.changing }()
	case <-ctx.Done():
		return Policy{}, context.Cause(ctx)
	}
	// Short, and better whole than half: a caller that goes away does not stop it.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), changeTimeout)
	defer cancel()
	if _, err := m.store.Update(rec.ID, func(r *record.Record) error {
		if r.State != sandbox.Running {
			return notRunning(r.ID)
		}
		r.Writing(c.Spec, policy)
		return nil
	}); err != nil {
		return Policy{}, err
	}
	failpoint.Hit("policy.recorded")
	stands, err := m.rules.Change(ctx, string(rec.ID), policy, c.Expected, c.Lease)
	if err != nil {
		// It may be in force all the same: what stands, the node's record tells.
		_, again := m.takeStanding(k)
		return Policy{}, errors.Join(err, again)
	}
	failpoint.Hit("policy.changed")
	rec, err = m.settlePolicy(k, stands)
	failpoint.Hit("policy.settled")
	if err != nil {
		return Policy{}, fmt.Errorf("the policy is in force, but not on brigd's record: %w", err)
	}
	now, err := clock.Now()
	if err != nil {
		return Policy{}, err
	}
	p := describe(&rec, stands, now)
	m.log.Info("network policy changed", "sandbox", rec.ID, "generation", p.Generation, "lease", c.Lease)
	m.publish(k, events.Event{Policy: &events.Policy{Generation: p.Generation, Until: p.Until}})
	return p, nil
}

// checkChange compiles a change's policy by the rules that a create obeys.
func (m *Manager) checkChange(rec record.Record, c Change) (netpolicy.Policy, error) {
	policy, err := record.CompilePolicy(c.Spec, m.limits.Ceiling)
	if err != nil {
		return policy, err
	}
	if c.Lease != 0 && (c.Lease < minLease || c.Lease > maxLease) {
		return policy, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("invalid lease %v: want %v to %v, or none to change the policy for good", c.Lease, minLease, maxLease))
	}
	if !rec.Live() {
		return policy, notRunning(rec.ID)
	}
	if policy.Blocked() && rec.Address.IsValid() {
		return denyEverything(), nil
	}
	return policy, nil
}

// denyEverything is what block_network means for a sandbox that has an interface, which
// cannot be taken away: nothing out, nobody in, no DNS. Unlike a link without a policy it
// refuses what it denies, so that live connections end at once and do not hang.
func denyEverything() netpolicy.Policy {
	policy, err := netpolicy.Compile(netpolicy.Spec{CIDRAllowlist: &[]string{}, InboundCIDRAllowlist: &[]string{}}, netpolicy.Ceiling{})
	if err != nil {
		panic(fmt.Sprintf("empty lists do not compile: %v", err)) // they always do
	}
	return policy
}

// setNothing answers for a sandbox that was made without a network: it stays so.
func (m *Manager) setNothing(rec record.Record, policy netpolicy.Policy, c Change) (Policy, error) {
	p := m.unbound(rec)
	switch {
	case !policy.Blocked():
		return Policy{}, errdefs.ErrFailedPrecondition.WithMessage(fmt.Sprintf("sandbox %s was made with block_network and has no interface that could be opened: make a new one", rec.ID))
	case c.Expected != 0 && c.Expected != p.Generation:
		return Policy{}, errdefs.ErrAborted.WithMessage(fmt.Sprintf("generation %d is in force, not %d: get the policy and decide anew", p.Generation, c.Expected))
	}
	return p, nil
}
