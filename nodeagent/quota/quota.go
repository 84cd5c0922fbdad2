// Package quota counts what each uid has of the node, and refuses what would be more than
// the configuration's [quotas] grant.
//
// A Ledger is memory alone: what exists is counted with Hold when brigd starts, so that
// nothing on disk can disagree with what it counts. What is new is counted with Take
// before its first deed, its intent too, and both give back a release, which whoever made
// the thing calls when it is gone, or when making it failed. Two creates at once cannot
// both have the last of a quota.
//
// Root has no quota; what it has is counted all the same. A Ledger is safe for concurrent
// use and never waits.
package quota

import (
	"fmt"
	"math"
	"sync"

	"github.com/containerd/errdefs"

	"brig/internal/config"
)

// Kind of thing that is counted.
type Kind int

// The kinds.
const (
	Sandboxes Kind = iota // being made or running
	Execs                 // running
	Tunnels               // open
	Images                // checkpoints and snapshots that are kept
	MemoryMiB             // of the memory limits of sandboxes
	MilliCPU              // thousandths of cores of their CPU limits
	GPUs                  // of sandboxes
	kinds
)

// names are those of the configuration's keys, and of what is to be done about it.
var names = [kinds]struct{ key, unit, remedy string }{
	Sandboxes: {"sandboxes", "sandboxes", "end one first"},
	Execs:     {"execs", "running execs", "wait for one to end"},
	Tunnels:   {"tunnels", "tunnels", "close one first"},
	Images:    {"images", "checkpoints and snapshots", "remove one first"},
	MemoryMiB: {"memory_mib", "MiB of memory", "end a sandbox, or ask for less"},
	MilliCPU:  {"cpu", "thousandths of a core", "end a sandbox, or ask for less"},
	GPUs:      {"gpus", "GPUs", "end a sandbox, or ask for fewer"},
}

// root has no quota.
const root = 0

// Amounts by kind.
type Amounts [kinds]uint64

// Ledger of a node. Make it with New.
type Ledger struct {
	limits Amounts // 0: none

	mu   sync.Mutex          // guards what follows
	used map[uint32]*Amounts // of uids that have something
}

// New returns a ledger that has counted nothing yet.
func New(q config.Quotas) *Ledger {
	return &Ledger{
		limits: Amounts{
			Sandboxes: uint64(q.Sandboxes), Execs: uint64(q.Execs), Tunnels: uint64(q.Tunnels), Images: uint64(q.Images),
			MemoryMiB: q.MemoryMiB, MilliCPU: Milli(q.CPU), GPUs: uint64(q.GPUs),
		},
		used: map[uint32]*Amounts{},
	}
}

// Milli is cores in thousandths, as MilliCPU counts them, rounded up: nothing is free.
func Milli(cores float64) uint64 { return uint64(math.Ceil(cores*1000 - 1e-6)) }

// Take counts n more of a kind as the uid's, or returns an ErrResourceExhausted that names
// the limit. Calling release again does nothing.
func (l *Ledger) Take(uid uint32, kind Kind, n uint64) (release func(), err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	used := l.of(uid)[kind]
	if limit := l.Limit(uid, kind); limit != 0 && (n > limit || used > limit-n) {
		l.drop(uid)
		name := names[kind]
		return nil, errdefs.ErrResourceExhausted.WithMessage(fmt.Sprintf(
			"uid %d has %d %s and asks for %d more: at most %d (quotas.%s); %s", uid, used, name.unit, n, limit, name.key, name.remedy))
	}
	return l.add(uid, kind, n), nil
}

// Hold counts n of a kind that the uid has already, whatever the limit.
func (l *Ledger) Hold(uid uint32, kind Kind, n uint64) (release func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.add(uid, kind, n)
}

// Used is what the uid has now.
func (l *Ledger) Used(uid uint32) Amounts {
	l.mu.Lock()
	defer l.mu.Unlock()
	if has := l.used[uid]; has != nil {
		return *has
	}
	return Amounts{}
}

// Limit is how much of a kind the uid may have; 0: any amount.
func (l *Ledger) Limit(uid uint32, kind Kind) uint64 {
	if uid == root {
		return 0
	}
	return l.limits[kind]
}

// add is called under mu.
func (l *Ledger) add(uid uint32, kind Kind, n uint64) (release func()) {
	if n == 0 {
		l.drop(uid)
		return func() {}
	}
	l.of(uid)[kind] += n
	return sync.OnceFunc(func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.used[uid][kind] -= n
		l.drop(uid)
	})
}

// of is called under mu.
func (l *Ledger) of(uid uint32) *Amounts {
	has := l.used[uid]
	if has == nil {
		has = &Amounts{}
		l.used[uid] = has
	}
	return has
}

// drop forgets a uid that has nothing: there are four billion of them. It is called
// under mu.
func (l *Ledger) drop(uid uint32) {
	if has := l.used[uid]; has != nil && *has == (Amounts{}) {
		delete(l.used, uid)
	}
}
