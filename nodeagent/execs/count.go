package execs

import (
	"time"

	"brig/nodeagent/activity"
)

// count one more that is kept; false if there is no room.
func (x *Exec) count(keep bool) bool {
	if !keep {
		return true
	}
	b := x.m.box(x.sb.ID)
	x.m.mu.Lock()
	defer x.m.mu.Unlock()
	if b.kept >= MaxKept {
		return false
	}
	b.kept++
	x.counted = true
	return true
}

// uncount what is not on disk any more.
func (x *Exec) uncount() {
	x.m.mu.Lock()
	defer x.m.mu.Unlock()
	if b := x.m.boxes[x.sb.ID]; b != nil && x.counted {
		b.kept--
	}
	x.counted = false
}

// wake marks that it runs, for its owner's quota, which release ends, and for the sandbox.
func (x *Exec) wake(release func()) {
	end := begin(x.sb.Activity)
	x.mu.Lock()
	defer x.mu.Unlock()
	x.awake = func() { end(); release() }
}

// rest marks that it runs no more since then, however often it is called.
func (x *Exec) rest(then time.Time) {
	x.mu.Lock()
	awake, ran := x.awake, x.running
	x.awake, x.running = func() {}, false
	x.mu.Unlock()
	awake()
	if ran {
		x.m.Figures.ExecEnded(then.Sub(x.note.Began))
	}
}

func begin(t *activity.Tracker) func() {
	if t == nil { // of a sandbox that has ended nobody asks
		return func() {}
	}
	return t.Begin()
}

// drop takes it out of memory.
func (x *Exec) drop() {
	x.m.mu.Lock()
	defer x.m.mu.Unlock()
	if b := x.m.boxes[x.sb.ID]; b != nil && b.live[x.id] == x {
		delete(b.live, x.id)
	}
}
