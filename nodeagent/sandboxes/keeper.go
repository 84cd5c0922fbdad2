package sandboxes

import (
	"context"
	"sync"
	"time"

	"brig/internal/sandbox"
	"brig/nodeagent/activity"
	"brig/nodeagent/record"
	"brig/nodeagent/standing"
	"brig/nodeagent/tunnel"
	"brig/nodeagent/usage"
)

// keeper stands for a sandbox that has not ended, in this process.
type keeper struct {
	id    sandbox.ID
	owner uint32
	link  string // in the transit namespace, if it has a network

	// activity knows since when it is idle.
	activity *activity.Tracker
	// meter counts what it uses; metered is what is on record of that.
	meter   *usage.Meter
	metered record.Usage // the metering goroutine's

	ready chan struct{} // closed when it was made, or undone
	fault error         // why it was undone; read after ready
	// abort has the making undone; nothing happens once it is made.
	abort context.CancelCauseFunc

	slot bool   // it was made of one that waited
	from origin // what it is made from; until it is ready

	ended chan struct{} // closed when its end is on record
	clean chan struct{} // closed when it was torn down, or that failed

	// release gives back what is counted of its owner's quota.
	release func()

	// from the runtime's events; closed once
	exit     chan struct{}
	exitOnce sync.Once

	share *tunnel.Share // of the limits of tunnels

	// changing holds one token while the policy is being changed.
	changing chan struct{}
	// saving holds one while the sandbox is paused, resumed or saved.
	saving chan struct{}

	mu      sync.Mutex // guards what follows
	closed  bool       // no tunnel is opened any more
	tunnels map[uint16]*door
	// ender stops who terminates the sandbox, by SIGKILL at due; nil: nobody does.
	ender  context.CancelFunc
	due    time.Time
	ooms   int // kills for want of memory that it has survived
	stands standing.Standing
	// superseded is closed when something else stands.
	superseded chan struct{}
}

func newKeeper(id sandbox.ID, abort context.CancelCauseFunc) *keeper {
	return &keeper{
		id:    id,
		abort: abort,

		activity: activity.New(),
		release:  func() {},

		changing: make(chan struct{}, 1),
		saving:   make(chan struct{}, 1),

		ready: make(chan struct{}),
		ended: make(chan struct{}),
		clean: make(chan struct{}),
		exit:  make(chan struct{}),

		tunnels: map[uint16]*door{},
	}
}

func (m *Manager) keeper(id sandbox.ID) *keeper {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.keepers[id]
}

func (m *Manager) addKeeper(rec record.Record, abort context.CancelCauseFunc) *keeper {
	k := newKeeper(rec.ID, abort)
	k.meter, k.metered = usage.New(rec.Usage, len(rec.GPUs)), rec.Usage
	k.owner, k.link, k.share = rec.Owner, m.rules.Link(string(rec.ID)), m.tunnels.Pool.Share()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.keepers[k.id] = k
	m.links[k.link] = k
	return k
}

func (m *Manager) dropKeeper(k *keeper) {
	m.mu.Lock()
	delete(m.keepers, k.id)
	delete(m.links, k.link)
	in, out := k.share.Bytes()
	m.gone.In, m.gone.Out = m.gone.In+in, m.gone.Out+out
	m.mu.Unlock()
	m.denials.Forget(k.link)
	k.release()
	if err := k.activity.Close(); err != nil {
		m.log.Warn("the mark of a sandbox's activity was not kept", "sandbox", k.id, "err", err)
	}
}

// Activity of a sandbox, for whatever keeps it awake. Of one that has ended it is one
// that nobody asks.
func (m *Manager) Activity(id sandbox.ID) *activity.Tracker {
	if k := m.keeper(id); k != nil {
		return k.activity
	}
	return activity.New()
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
