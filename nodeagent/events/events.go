// Package events passes on what happens to sandboxes, to whoever listens.
//
// Publishing never waits: every listener has a ring of a fixed size, and one that
// reads too slowly loses the oldest and is told how many. Nothing is kept for those
// who come later. A Hub is safe for concurrent use.
package events

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/containerd/errdefs"

	"brig/internal/sandbox"
	"brig/nodeagent/denials"
	"brig/nodeagent/record"
)

// The bounds of what listening costs.
const (
	maxListeners = 256 // of all callers
	maxOfOne     = 32  // of one uid
	ring         = 1024
)

// root may see everybody's events.
const root = 0

// Event is something that happened. One of the pointers is set, or Missed.
type Event struct {
	At time.Time
	// Sandbox is empty if it is not known whose it was; only root sees those.
	Sandbox sandbox.ID
	Owner   uint32

	Created *Created
	Exited  *record.Exit
	Policy  *Policy
	Denied  *Denied
	// OOM: something in it was killed for want of memory.
	OOM bool
	// Paused and Resumed: its programs stand still, or go on.
	Paused, Resumed bool
	// Missed counts the events that this listener has lost here.
	Missed uint64
}

// Created says that a sandbox runs.
type Created struct{ Name, Image string }

// Policy says that another policy is in force.
type Policy struct {
	Generation uint64
	Until      time.Time // of a lease; zero: for good
	Reverted   bool      // a lease has ended
}

// Denied says that something was refused.
type Denied struct {
	denials.Denial
	Generation uint64 // of the policy in force; 0: none
}

// Filter says which events a listener gets.
type Filter struct {
	UID uint32
	// Sandbox alone; empty: all that UID may see.
	Sandbox sandbox.ID
}

func (f Filter) passes(e *Event) bool {
	return (f.UID == root || f.UID == e.Owner && e.Sandbox != "") && (f.Sandbox == "" || f.Sandbox == e.Sandbox)
}

// Hub passes events on.
type Hub struct {
	mu        sync.Mutex // guards what follows
	listeners map[*Listener]bool
}

// NewHub returns a Hub to which nobody listens.
func NewHub() *Hub { return &Hub{listeners: map[*Listener]bool{}} }

// Publish passes e on and never waits.
func (h *Hub) Publish(e Event) {
	if e.At.IsZero() {
		e.At = time.Now()
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for l := range h.listeners {
		if l.filter.passes(&e) {
			l.put(e)
		}
	}
}

// Listen begins now. The Listener must be closed.
func (h *Hub) Listen(f Filter) (*Listener, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	own := 0
	for l := range h.listeners {
		if l.filter.UID == f.UID {
			own++
		}
	}
	if len(h.listeners) >= maxListeners || own >= maxOfOne {
		return nil, errdefs.ErrResourceExhausted.WithMessage(fmt.Sprintf("%d of your calls listen for events already: end one first", own))
	}
	l := &Listener{hub: h, filter: f, wake: make(chan struct{}, 1)}
	h.listeners[l] = true
	return l, nil
}

// Listener gets events. One goroutine calls Next.
type Listener struct {
	hub    *Hub
	filter Filter
	wake   chan struct{}

	mu     sync.Mutex   // guards what follows; taken under the hub's
	events [ring]*Event // from first on, round and round
	first  int
	count  int
	missed uint64
}

func (l *Listener) put(e Event) {
	l.mu.Lock()
	if l.count == ring {
		l.first = (l.first + 1) % ring
		l.count--
		l.missed++
	}
	l.events[(l.first+l.count)%ring] = &e
	l.count++
	l.mu.Unlock()
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// Next waits for an event, as long as ctx allows.
func (l *Listener) Next(ctx context.Context) (Event, error) {
	for {
		if e, ok := l.get(); ok {
			return e, nil
		}
		select {
		case <-l.wake:
		case <-ctx.Done():
			return Event{}, context.Cause(ctx)
		}
	}
}

func (l *Listener) get() (Event, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.missed > 0 {
		e := Event{At: time.Now(), Missed: l.missed}
		l.missed = 0
		return e, true
	}
	if l.count == 0 {
		return Event{}, false
	}
	e := *l.events[l.first]
	l.events[l.first] = nil
	l.first = (l.first + 1) % ring
	l.count--
	return e, true
}

// Close ends listening.
func (l *Listener) Close() {
	l.hub.mu.Lock()
	defer l.hub.mu.Unlock()
	delete(l.hub.listeners, l)
}
