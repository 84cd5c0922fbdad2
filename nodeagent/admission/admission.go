// Package admission bounds how many of a thing, connections or calls, callers hold at
// once, so that what one of them takes is never what the others need.
//
// Two rules hold together. A quota is what one uid may have; root has none. And whoever
// asks gets one only while fewer are theirs than are left over: alone a uid can take half
// of all there are, a second one half of the rest, and somebody who has none is served
// until the very last. So nothing has to be taken back from anybody.
//
// A Gate is safe for concurrent use.
package admission

import (
	"fmt"
	"sync"

	"github.com/containerd/errdefs"
)

// root has no quota.
const root = 0

// Gate counts what its callers hold.
type Gate struct {
	what  string
	key   string // of the configuration that names the quota
	quota int
	total int

	mu  sync.Mutex // guards what follows
	all int
	one map[uint32]int
}

// New returns a gate for total things, called what, of which a uid may have quota; 0: as
// many as fairness leaves. key is the quota's name in the configuration, for errors.
func New(what, key string, quota, total int) *Gate {
	return &Gate{what: what, key: key, quota: quota, total: total, one: map[uint32]int{}}
}

// Enter takes one for uid until leave is called, which may be called more than once. The
// error is an ErrResourceExhausted that says what to do.
func (g *Gate) Enter(uid uint32) (leave func(), err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	have := g.one[uid]
	if uid != root && g.quota > 0 && have >= g.quota {
		return nil, exhausted("you have %d %s, and %s allows no more: end some first", have, g.what, g.key)
	}
	if left := g.total - g.all; have >= left {
		return nil, exhausted("the node has %d %s left and you have %d: end some first", left, g.what, have)
	}
	g.all++
	g.one[uid]++
	var once sync.Once
	return func() { once.Do(func() { g.leave(uid) }) }, nil
}

func (g *Gate) leave(uid uint32) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.all--
	if g.one[uid]--; g.one[uid] == 0 {
		delete(g.one, uid)
	}
}

func exhausted(format string, args ...any) error {
	return errdefs.ErrResourceExhausted.WithMessage(fmt.Sprintf(format, args...))
}
