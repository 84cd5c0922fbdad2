package sandboxes

import (
	"context"
	"sync"

	"brig/internal/sandbox"
	"brig/nodeagent/tunnel"
)

// keeper stands for a sandbox that has not ended, in this process.
type keeper struct {
	id sandbox.ID

	ready chan struct{} // closed when it was made, or undone
	fault error         // why it was undone; read after ready
	// abort has the making undone; nothing happens once it is made.
	abort context.CancelCauseFunc

	ended chan struct{} // closed when its end is on record
	clean chan struct{} // closed when it was torn down, or that failed

	// from the runtime's events; each closed once
	oom, exit         chan struct{}
	oomOnce, exitOnce sync.Once

	mu      sync.Mutex // guards what follows
	closed  bool       // no tunnel is opened any more
	tunnels map[uint16]*tunnel.Tunnel
}

func newKeeper(id sandbox.ID, abort context.CancelCauseFunc) *keeper {
	return &keeper{
		id:    id,
		abort: abort,
		ready: make(chan struct{}),
		ended: make(chan struct{}),
		clean: make(chan struct{}),
		oom:   make(chan struct{}),
		exit:  make(chan struct{}),

		tunnels: map[uint16]*tunnel.Tunnel{},
	}
}

func (m *Manager) keeper(id sandbox.ID) *keeper {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.keepers[id]
}

func (m *Manager) addKeeper(id sandbox.ID, abort context.CancelCauseFunc) *keeper {
	k := newKeeper(id, abort)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.keepers[id] = k
	return k
}

func (m *Manager) dropKeeper(k *keeper) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.keepers, k.id)
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
