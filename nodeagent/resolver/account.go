package resolver

import (
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// What a sandbox may ask: questions per second, and octets per second of its own choice
// under wildcard names, each with what it may save up. The octets are what makes names
// a way out for data; an address that is still pinned costs none of them.
const (
	listedRate, listedBurst = 50, 500
	openRate, openBurst     = 200, 1000
	freeRate, freeBurst     = 32, 2048
)

// What is remembered of what sandboxes were told: entries of one and of all (some 200
// bytes each), and how long a sandbox that asks nothing is.
const (
	maxTold    = 1024
	maxToldAll = 1 << 18
	idle       = 10 * time.Minute
	sweepEvery = time.Minute
)

// accounts of all sandboxes, by link. Safe for concurrent use.
type accounts struct {
	mu    sync.Mutex // guards what follows, and what is in it
	of    map[string]*account
	told  int // entries of all
	swept time.Time
}

// account of one sandbox.
type account struct {
	questions, free *rate.Limiter
	open            bool // the limits of a sandbox that may ask everything
	used            time.Time
	generation      uint64
	told            map[string]map[netip.Addr]time.Time // until when
	count           int
}

func newAccounts() *accounts { return &accounts{of: map[string]*account{}} }

// admit takes one question from the sandbox's budget.
func (a *accounts) admit(s Sandbox, open bool) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.get(s, open).questions.Allow()
}

// spend takes the octets of a name from the sandbox's budget, unless it was told that
// name's addresses before.
func (a *accounts) spend(s Sandbox, host, free string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	one := a.get(s, false)
	return len(one.live(host)) > 0 || one.free.AllowN(time.Now(), len(free))
}

// get returns the sandbox's account. What it was told under another policy is not kept.
func (a *accounts) get(s Sandbox, open bool) *account {
	now := time.Now()
	if now.Sub(a.swept) > sweepEvery {
		a.sweep(now)
	}
	one := a.of[s.Link]
	if one == nil || one.open != open {
		if one != nil {
			a.told -= one.count
		}
		one = &account{questions: rate.NewLimiter(listedRate, listedBurst), free: rate.NewLimiter(freeRate, freeBurst), open: open, generation: s.Generation}
		if open {
			one.questions = rate.NewLimiter(openRate, openBurst)
		}
		a.of[s.Link] = one
	}
	if one.generation != s.Generation {
		a.told -= one.count
		one.generation, one.told, one.count = s.Generation, nil, 0
	}
	one.used = now
	return one
}

// tell remembers that the sandbox was told these addresses of host. False: there is no
// room, and nothing was remembered.
func (a *accounts) tell(s Sandbox, host string, addrs []netip.Addr, until time.Time) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	one := a.get(s, false)
	if one.count+len(addrs) > maxTold {
		a.told -= one.count
		one.sweep(time.Now())
		a.told += one.count
	}
	if one.count+len(addrs) > maxTold || a.told+len(addrs) > maxToldAll {
		return false
	}
	if one.told == nil {
		one.told = map[string]map[netip.Addr]time.Time{}
	}
	if one.told[host] == nil {
		one.told[host] = map[netip.Addr]time.Time{}
	}
	for _, addr := range addrs {
		before, known := one.told[host][addr]
		if !known {
			one.count++
			a.told++
		}
		if before.Before(until) {
			one.told[host][addr] = until
		}
	}
	return true
}

// addresses of host that the sandbox was told and that still hold, sorted.
func (a *accounts) addresses(s Sandbox, host string) []netip.Addr {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.get(s, false).live(host)
}

func (one *account) live(host string) []netip.Addr {
	var addrs []netip.Addr
	now := time.Now()
	for addr, until := range one.told[host] {
		if now.Before(until) {
			addrs = append(addrs, addr)
		}
	}
	slices.SortFunc(addrs, netip.Addr.Compare)
	return addrs
}

// sweep forgets what has run out, and sandboxes that ask nothing and were told nothing
// that holds: by then their budgets are full again.
func (a *accounts) sweep(now time.Time) {
	a.swept, a.told = now, 0
	maps.DeleteFunc(a.of, func(_ string, one *account) bool {
		one.sweep(now)
		a.told += one.count
		return one.count == 0 && now.Sub(one.used) > idle
	})
}

func (one *account) sweep(now time.Time) {
	one.count = 0
	maps.DeleteFunc(one.told, func(_ string, addrs map[netip.Addr]time.Time) bool {
		maps.DeleteFunc(addrs, func(_ netip.Addr, until time.Time) bool { return !now.Before(until) })
		one.count += len(addrs)
		return len(addrs) == 0
	})
}
