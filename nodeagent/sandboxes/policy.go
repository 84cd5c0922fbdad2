package sandboxes

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/containerd/errdefs"

	"brig/internal/netpolicy"
	"brig/internal/sandbox"
	"brig/nodeagent/clock"
	"brig/nodeagent/denials"
	"brig/nodeagent/events"
	"brig/nodeagent/metrics"
	"brig/nodeagent/record"
	"brig/nodeagent/standing"
)

// The bounds of a lease.
const (
	minLease = time.Second
	maxLease = 24 * time.Hour
)

// changeTimeout is how long a change may take once it has begun, with nobody waiting.
const changeTimeout = time.Minute

// Policy is what is in force for a sandbox.
type Policy struct {
	Spec       netpolicy.Spec
	Generation uint64
	// Until is when a lease ends, on the wall's clock; zero: it is for good.
	Until time.Time
	// Base is what a lease reverts to.
	Base           netpolicy.Spec
	BaseGeneration uint64
	// Bound: false is deny, whatever Spec says.
	Bound   bool
	Denials map[denials.Reason]uint64
}

// Change of a policy.
type Change struct {
	Spec netpolicy.Spec
	// Expected generation in force; 0: any.
	Expected uint64
	// Lease: for how long; 0: for good.
	Lease time.Duration
}

// Policy returns what is in force for a sandbox: what the node has on record, in the
// words in which it was written.
func (m *Manager) Policy(rec record.Record) (Policy, error) {
	if !rec.Live() || rec.State != sandbox.Running || !rec.Address.IsValid() {
		return m.unbound(rec), nil
	}
	now, err := clock.Now()
	if err != nil {
		return Policy{}, err
	}
	stands, err := m.rules.Standing(string(rec.ID))
	if err != nil {
		return Policy{}, err
	}
	p := describe(&rec, stands, now)
	p.Denials = m.denials.Counts(m.rules.Link(string(rec.ID)))
	return p, nil
}

// unbound is the policy of a sandbox that has no link: it was made without a network,
// is not made yet, or has ended.
func (m *Manager) unbound(rec record.Record) Policy {
	spec, generation := m.PolicyOf(rec)
	return Policy{Spec: spec, Generation: generation}
}

func describe(rec *record.Record, stands standing.Standing, now time.Duration) Policy {
	grant, bound := stands.InForce(now)
	if !bound {
		return Policy{Spec: netpolicy.Spec{BlockNetwork: true}}
	}
	p := Policy{Spec: rec.Spec(grant), Generation: grant.Generation, Bound: true}
	if l, ok := stands.Leased(now); ok {
		p.Until = time.Now().Add(l.Until - now)
		p.Base = netpolicy.Spec{BlockNetwork: true}
		if stands.Grant != nil {
			p.Base, p.BaseGeneration = rec.Spec(*stands.Grant), stands.Grant.Generation
		}
	}
	return p
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
	stands, err := m.rules.Change(ctx, string(rec.ID), policy, c.Expected, c.Lease)
	if err != nil {
		// It may be in force all the same: what stands, the node's record tells.
		_, again := m.takeStanding(k)
		return Policy{}, errors.Join(err, again)
	}
	rec, err = m.settlePolicy(k, stands)
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

// takeStanding brings brigd in line with what the node has on record.
func (m *Manager) takeStanding(k *keeper) (record.Record, error) {
	stands, err := m.rules.Standing(string(k.id))
	if err != nil {
		return record.Record{}, err
	}
	return m.settlePolicy(k, stands)
}

// settlePolicy takes over what stands: connections are judged by it from now on, those
// of tunnels that are open too, and the words of nothing else are kept.
func (m *Manager) settlePolicy(k *keeper, stands standing.Standing) (record.Record, error) {
	superseded := k.stand(stands)
	m.rejudge(k)
	if l := stands.Lease; l != nil {
		m.wg.Go(func() { m.awaitLease(k, *l, superseded) })
	}
	rec, err := m.store.Update(k.id, func(r *record.Record) error {
		r.Stands(stands, m.boot)
		return nil
	})
	if err != nil {
		return rec, err
	}
	now, err := clock.Now()
	if err != nil {
		return rec, err
	}
	grant, _ := stands.InForce(now)
	if err := m.writeResolv(&rec, grant.Policy); err != nil {
		m.log.Warn("tell the sandbox whether it has DNS", "sandbox", rec.ID, "err", err)
	}
	return rec, nil
}

// rejudge applies what stands to what brigd itself holds open for a sandbox.
func (m *Manager) rejudge(k *keeper) {
	for _, t := range k.openTunnels() {
		t.Rejudge()
	}
	if m.changed != nil {
		m.changed(k.link)
	}
}

// awaitLease follows the end of a lease, which the kernel brings about by itself, unless
// another change takes its place.
func (m *Manager) awaitLease(k *keeper, lease standing.Lease, superseded <-chan struct{}) {
	for {
		now, err := clock.Now()
		if err != nil {
			m.log.Error("follow a lease", "sandbox", k.id, "err", err)
		}
		if err == nil && now >= lease.Until {
			break
		}
		timer := time.NewTimer(min(max(lease.Until-now, time.Millisecond), clockLook))
		select {
		case <-timer.C:
		case <-superseded:
		case <-k.ended:
		case <-m.ctx.Done():
		}
		timer.Stop()
		if m.ctx.Err() != nil || isClosed(k.ended) || isClosed(superseded) {
			return
		}
	}
	k.changing <- struct{}{}
	defer func() { <-k.changing }()
	if isClosed(superseded) {
		return
	}
	m.rejudge(k)
	grant, bound := k.inForce()
	if !bound || isClosed(k.ended) {
		return
	}
	rec, err := m.store.Get(k.id)
	if err == nil {
		err = m.writeResolv(&rec, grant.Policy)
	}
	if err != nil {
		m.log.Warn("tell the sandbox whether it has DNS", "sandbox", k.id, "err", err)
	}
	m.log.Info("a lease of a network policy has ended", "sandbox", k.id, "generation", grant.Generation)
	m.metrics.PolicyChange(metrics.Reverted)
	m.publish(k, events.Event{Policy: &events.Policy{Generation: grant.Generation, Reverted: true}})
}

// stand takes over what stands. The channel is closed when something else does.
func (k *keeper) stand(s standing.Standing) (superseded <-chan struct{}) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.superseded != nil {
		close(k.superseded)
	}
	k.stands, k.superseded = s, make(chan struct{})
	return k.superseded
}

func (k *keeper) standing() standing.Standing {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.stands
}

// inForce is the policy in force now; false: deny.
func (k *keeper) inForce() (standing.Grant, bool) {
	now, err := clock.Now()
	if err != nil {
		return standing.Grant{}, false
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.stands.InForce(now)
}

// admits tells whether a source may connect to the sandbox's tunnels now.
func (k *keeper) admits(src netip.Addr) bool {
	grant, bound := k.inForce()
	return bound && grant.Policy.AdmitsInbound(src)
}

// PolicyOf returns what was last known to be in force, from a record alone, for lists.
func (m *Manager) PolicyOf(rec record.Record) (netpolicy.Spec, uint64) {
	now, err := clock.Now()
	if err != nil {
		m.log.Error("tell whether a lease lasts", "err", err)
	}
	spec, generation := rec.Policy(now, m.boot)
	return spec, max(generation, 1)
}
