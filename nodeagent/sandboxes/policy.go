package sandboxes

import (
	"math"
	"time"

	"brig/internal/netpolicy"
	"brig/internal/sandbox"
	"brig/nodeagent/clock"
	"brig/nodeagent/denials"
	"brig/nodeagent/record"
	"brig/nodeagent/standing"
)

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

// PolicyOf returns what was last known to be in force, from a record alone, for lists.
func (m *Manager) PolicyOf(rec record.Record) (netpolicy.Spec, uint64) {
	now, err := clock.Now()
	if err != nil {
		m.log.Error("tell whether a lease lasts", "err", err)
		now = math.MaxInt64 // none does
	}
	spec, generation := rec.Policy(now, m.boot)
	return spec, max(generation, 1)
}
