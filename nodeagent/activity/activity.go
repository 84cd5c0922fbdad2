// Package activity knows since when a sandbox is idle: since then no exec of it ran, no
// connection of a tunnel was open, and nothing was written to its stdin.
//
// Whatever keeps a sandbox awake says so: Begin when it begins, the function that Begin
// returned when it ends, Touch for what happens in an instant. It never waits and takes no
// other lock, so it may be called under any. Whoever ends idle sandboxes asks Idle; what
// is busy when it is asked cannot be due before a whole idle timeout later, so that nobody
// need be told of changes.
//
// Times are the boot clock's, which a change of the wall's clock does not move and which
// counts through a suspend. A Tracker is safe for concurrent use. With Keep it writes every
// change down, so that a brigd that restarts does not begin to count anew.
package activity

import (
	"sync"
	"time"

	"brig/nodeagent/clock"
)

// Tracker of one sandbox. Make it with New.
type Tracker struct {
	mu    sync.Mutex // guards what follows
	busy  int        // what has begun and not ended
	since time.Duration
	keep  *mark // nil: nobody asked for it
}

// New returns a tracker of a sandbox that is idle from now on.
func New() *Tracker {
	t := &Tracker{}
	t.stamp()
	return t
}

// Begin marks something that keeps the sandbox awake until end is called. Calling end
// again does nothing.
func (t *Tracker) Begin() (end func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.busy++
	if t.busy == 1 {
		t.write()
	}
	return sync.OnceFunc(t.end)
}

func (t *Tracker) end() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.busy--
	t.stamp()
}

// Touch marks something that has just happened.
func (t *Tracker) Touch() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.stamp()
}

// Idle returns since when, on the boot's clock, the sandbox is idle; or false while
// something keeps it awake.
func (t *Tracker) Idle() (since time.Duration, idle bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.since, t.busy == 0
}

// stamp is called under mu. A clock that cannot be read leaves the last time that it
// could be: at worst the sandbox ends early, which is what it was asked to do.
func (t *Tracker) stamp() {
	if now, err := clock.Now(); err == nil {
		t.since = max(t.since, now)
	}
	if t.busy == 0 {
		t.write()
	}
}

// write is called under mu. It is one write of a few bytes to the page cache: cheaper
// than whatever it tells of.
func (t *Tracker) write() {
	if t.keep != nil {
		t.keep.write(t.since, t.busy > 0)
	}
}
