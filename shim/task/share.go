package task

import (
	"maps"
	"math/bits"
	"sync"
)

// shares divides the processor time that the host has counted for a sandbox among its
// containers, as the sentry's own account says. What each has been given never shrinks,
// and all together are never more than the host's count: the sentry may tell what it
// likes, its sandbox pays the same.
type shares struct {
	mu    sync.Mutex
	given map[string]uint64 // nanoseconds by container
	seen  map[string]uint64 // the sentry's account when they were given
	whole uint64            // the sum of given
}

// of container id, after whole has been divided by account. Without an account it is
// what was given before.
func (s *shares) of(id string, whole uint64, account map[string]uint64) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.given == nil {
		s.given = make(map[string]uint64)
	}
	news := make(map[string]uint64)
	var sum uint64
	for id, time := range account {
		// A sum that wraps is a lie, and a smaller divisor would give too much.
		next, carry := bits.Add64(sum, time-min(time, s.seen[id]), 0)
		if carry == 0 {
			news[id], sum = time-min(time, s.seen[id]), next
		}
	}
	if sum > 0 && whole > s.whole {
		rest := whole - s.whole
		for id, time := range news {
			high, low := bits.Mul64(rest, time)
			part, _ := bits.Div64(high, low, sum)
			s.given[id] += part
			s.whole += part
		}
		s.seen = maps.Clone(account)
	}
	return s.given[id]
}

// forget container id.
func (s *shares) forget(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.given, id)
	delete(s.seen, id)
}
