// Package pool keeps sandboxes that wait: booted, in a network that lets nothing through,
// nobody's. A create that one fits takes it instead of booting its own.
//
// A slot is on record before anything of it is made, under the id of the sandbox that it
// becomes; whoever takes it turns that record into the sandbox's. So after a crash every
// slot is either whole, and taken over if the same brigd would make the same one, or
// removed. A slot that somebody has begun to use never comes back.
//
// Slots are made one at a time and only beside creates, never in their way. A Pool is safe
// for concurrent use.
package pool

import (
	"context"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"brig/internal/config"
	"brig/internal/sandbox"
	"brig/nodeagent/engine"
	"brig/nodeagent/record"
)

// Runtime boots slots.
type Runtime interface {
	Boot(ctx context.Context, s engine.Slot) error
	// Waits tells that a slot is there and nobody has begun to use it.
	Waits(ctx context.Context, id string) (bool, error)
	Remove(ctx context.Context, id string) error
}

// Restorer makes the slots that go on from a checkpoint.
type Restorer interface {
	// Restore makes one, connected already, that has loaded its checkpoint and waits.
	Restore(ctx context.Context, s record.Slot, netns string) error
	// Restorable tells that the checkpoint is still there.
	Restorable(record.Held) bool
	// Clear removes what only such a slot has, once its runtime's part is gone.
	Clear(id sandbox.ID) error
}

// Network gives them a place that nothing leaves and nothing reaches.
type Network interface {
	// Prepare makes a network namespace, AttachClosed connects it.
	Prepare(id string) (netns string, err error)
	AttachClosed(ctx context.Context, id string) (netip.Addr, error)
	Detach(ctx context.Context, id string) error
}

// Store keeps their records.
type Store interface {
	PutSlot(record.Slot) error
	DeleteSlot(sandbox.ID) error
	Slots() ([]record.Slot, error)
}

// Parts of a Pool.
type Parts struct {
	Config  config.Pool
	Runtime Runtime
	Network Network
	Store   Store
	// Restorer is set before Run; nil: no slot goes on from a checkpoint.
	Restorer Restorer
	// Default shape: that of a create which asks for nothing.
	Default record.Shape
	// Maker names what makes slots now. One that something else made is not used.
	Maker func() (string, error)
	Boot  string // names the machine's present run
	// Now is a clock that does not jump; 0 where it cannot be read: then nothing is old.
	Now func() time.Duration
	Log *slog.Logger
}

// Pool of a node.
type Pool struct {
	Parts
	cancel context.CancelFunc
	wg     sync.WaitGroup
	wake   chan struct{} // holds a token when there is something to do

	mu       sync.Mutex // guards what follows
	open     bool       // slots may be taken
	waiting  []record.Slot
	leaving  []record.Slot // to be removed
	making   int
	made     *made // the one that is being made
	removing int
	busy     int           // creates under way
	idle     chan struct{} // closed when busy is 0; nil: it is
	demand   demand
	away     wait // of a maker that fails
}

// made is a slot that is being made.
type made struct {
	shape  record.Shape
	cancel context.CancelFunc
	gone   bool          // there is to be none of its shape any more
	over   chan struct{} // closed when it is made, or not
}

// Figures of a pool.
type Figures struct{ Waiting, Making, Leaving int }

// New returns a pool that does nothing yet.
func New(p Parts) *Pool { return &Pool{Parts: p, wake: make(chan struct{}, 1), cancel: func() {}} }

// Run keeps the pool in order until ctx ends: first it takes over, or removes, what an
// earlier brigd left. The slots stay.
func (p *Pool) Run(ctx context.Context) {
	ctx, p.cancel = context.WithCancel(ctx)
	p.wg.Go(func() { p.keep(ctx) })
}

// Close waits for the end of what Run does. The slots stay.
func (p *Pool) Close() {
	p.cancel()
	p.wg.Wait()
}

// Take returns a slot of that shape, which is the caller's from now on: to be claimed, or
// given back untouched. false: there is none.
func (p *Pool) Take(shape record.Shape) (record.Slot, bool) {
	defer p.nudge()
	maker, err := p.Maker()
	now := p.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.demand.note(now, shape)
	if err != nil || !p.open {
		return record.Slot{}, false
	}
	for i, s := range p.waiting {
		if s.Shape == shape && s.Maker == maker && !p.old(s, now) {
			p.waiting = append(p.waiting[:i:i], p.waiting[i+1:]...)
			return s, true
		}
	}
	return record.Slot{}, false
}

// Return gives back a slot of which nothing was used.
func (p *Pool) Return(s record.Slot) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.waiting = append(p.waiting, s)
}

// Forget has no slot be of the shapes that gone is true of, until one is asked for again.
// When it returns none is being made.
func (p *Pool) Forget(ctx context.Context, gone func(record.Shape) bool) error {
	defer p.nudge()
	p.mu.Lock()
	p.demand.forget(gone)
	p.dismiss(func(s record.Slot) bool { return gone(s.Shape) })
	making := p.made
	if making == nil || !gone(making.shape) {
		p.mu.Unlock()
		return nil
	}
	making.gone = true
	making.cancel()
	p.mu.Unlock()
	select {
	case <-making.over:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Died takes note of the end of a sandbox, which may be a slot.
func (p *Pool) Died(id string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, s := range p.waiting {
		if string(s.ID) == id {
			p.waiting = append(p.waiting[:i:i], p.waiting[i+1:]...)
			p.leaving = append(p.leaving, s)
			p.Log.Warn("a sandbox that waited has ended", "sandbox", id)
			p.nudge()
			return
		}
	}
}

// Busy says that a create is under way until done is called: what is made for later waits
// for it, a while.
func (p *Pool) Busy() (done func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.busy++; p.idle == nil {
		p.idle = make(chan struct{})
	}
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.busy--; p.busy == 0 {
			close(p.idle)
			p.idle = nil
		}
	}
}

// Figures tells how many slots there are.
func (p *Pool) Figures() Figures {
	p.mu.Lock()
	defer p.mu.Unlock()
	return Figures{Waiting: len(p.waiting), Making: p.making, Leaving: len(p.leaving) + p.removing}
}

// nudge has keep look again.
func (p *Pool) nudge() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// old tells that a slot has waited too long.
func (p *Pool) old(s record.Slot, now time.Duration) bool {
	age := time.Duration(p.Config.MaxAge)
	return age > 0 && now-s.Made.At > age
}
