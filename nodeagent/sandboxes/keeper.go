package sandboxes

import (
	"sync"

	"brig/internal/sandbox"
	"brig/nodeagent/tunnel"
)

// keeper stands for a sandbox that has not ended, in this process.
type keeper struct {
	id sandbox.ID

	ready chan struct{} // closed when it was made, or undone
	fault error         // why it was undone; read after ready

	ended chan struct{} // closed when its end is on record
	clean chan struct{} // closed when it was torn down, or that failed

	// from the runtime's events; each closed once
	oom, exit         chan struct{}
	oomOnce, exitOnce sync.Once

	mu      sync.Mutex // guards what follows
	closed  bool       // no tunnel is opened any more
	tunnels map[uint16]*tunnel.Tunnel
}

func newKeeper(id sandbox.ID) *keeper {
	return &keeper{
		id:    id,
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

func (m *Manager) addKeeper(id sandbox.ID) *keeper {
	k := newKeeper(id)
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
