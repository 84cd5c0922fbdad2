package resolver

import (
	"net/netip"
	"sync"
)

// gate bounds questions at once. It turns away rather than lets wait: what waits
// takes memory, and clients ask again anyway.
type gate struct {
	maxAll, maxOne int

	mu  sync.Mutex // guards what follows
	all int
	one map[netip.Addr]int
}

func newGate(maxAll, maxOne int) *gate {
	return &gate{maxAll: maxAll, maxOne: maxOne, one: map[netip.Addr]int{}}
}

func (g *gate) enter(source netip.Addr) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.all >= g.maxAll || g.one[source] >= g.maxOne {
		return false
	}
	g.all++
	g.one[source]++
	return true
}

func (g *gate) leave(source netip.Addr) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.all--
	if g.one[source]--; g.one[source] == 0 {
		delete(g.one, source)
	}
}
