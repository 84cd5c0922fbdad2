package sandboxes

import (
	"errors"
	"net/netip"
	"reflect"
	"time"

	"brig/nodeagent/clock"
	"brig/nodeagent/events"
	"brig/nodeagent/metrics"
	"brig/nodeagent/record"
	"brig/nodeagent/standing"
)

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
	now, err := clock.Now()
	if err != nil {
		return record.Record{}, err
	}
	superseded := k.stand(stands)
	m.rejudge(k)
	if l, ok := stands.Leased(now); ok { // the node remembers one that has ended, too
		m.wg.Go(func() { m.awaitLease(k, l, superseded) })
	}
	rec, err := m.store.Update(k.id, func(r *record.Record) error {
		was := r.Policies
		if r.Stands(stands, m.boot); reflect.DeepEqual(was, r.Policies) {
			return errNothingToDo
		}
		return nil
	})
	if err != nil && !errors.Is(err, errNothingToDo) {
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
