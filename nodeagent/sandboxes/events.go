package sandboxes

import (
	"brig/nodeagent/denials"
	"brig/nodeagent/events"
)

// publish tells of a sandbox.
func (m *Manager) publish(k *keeper, e events.Event) {
	e.Sandbox, e.Owner = k.id, k.owner
	m.events.Publish(e)
}

// Denied tells of something refused to whichever sandbox has the link. It does not wait.
func (m *Manager) Denied(d denials.Denial) {
	e := events.Event{At: d.At, Denied: &events.Denied{Denial: d}}
	m.mu.Lock()
	k := m.links[d.Link]
	m.mu.Unlock()
	if k == nil { // another containerd client's, or gone
		m.events.Publish(e)
		return
	}
	if grant, bound := k.inForce(); bound {
		e.Denied.Generation = grant.Generation
	}
	m.publish(k, e)
}
