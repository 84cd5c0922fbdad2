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

// What is remembered of what sandboxes were told, and of what is pinned for them:
// entries of one and of all (some 200 bytes each), and how long a sandbox is that asks
// nothing.
const (
	maxTold    = 1024
	maxPinned  = 4096
	maxToldAll = 1 << 18
	idle       = 10 * time.Minute
	sweepEvery = time.Minute
	// pinAgain is after what time the kernel is told again what it was told: somebody
	// may have taken its rules away, and they were put in place anew without pins.
	pinAgain = 10 * time.Second
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
	pinned          map[netip.AddrPort]pinned
	count           int // of both
}

// pinned is what the kernel was told of an address: until when, and when it was told.
type pinned struct{ until, at time.Time }

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
		one.generation, one.told, one.pinned, one.count = s.Generation, nil, nil, 0
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
	if one.full(len(addrs)) {
		a.told -= one.count
		one.sweep(time.Now())
		a.told += one.count
	}
	if one.full(len(addrs)) || a.told+len(addrs) > maxToldAll {
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

// due are those of the pins that the kernel must be told: what it was told a moment ago
// it knows, and what it knows for longer under another name stays so long. False: there
// is no room.
func (a *accounts) due(s Sandbox, pins []Pin) ([]Pin, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	one := a.get(s, false)
	now := time.Now()
	var due []Pin
	for _, p := range pins {
		known := one.pinned[netip.AddrPortFrom(p.Addr, p.Port)]
		left := known.until.Sub(now)
		if left >= p.TTL-time.Second && now.Sub(known.at) < pinAgain {
			continue
		}
		p.TTL = max(p.TTL, left)
		due = append(due, p)
	}
	if len(one.pinned)+len(due) > maxPinned {
		a.told -= one.count
		one.sweep(now)
		a.told += one.count
	}
	return due, len(one.pinned)+len(due) <= maxPinned && a.told+len(due) <= maxToldAll
}

// pin remembers what the kernel has been told.
func (a *accounts) pin(s Sandbox, pins []Pin) {
	a.mu.Lock()
	defer a.mu.Unlock()
	one := a.get(s, false)
	now := time.Now()
	if one.pinned == nil {
		one.pinned = map[netip.AddrPort]pinned{}
	}
	for _, p := range pins {
		at := netip.AddrPortFrom(p.Addr, p.Port)
		if _, known := one.pinned[at]; !known {
			one.count++
			a.told++
		}
		one.pinned[at] = pinned{until: now.Add(p.TTL), at: now}
	}
}

// addresses of host that the sandbox was told and that still hold, sorted.
func (a *accounts) addresses(s Sandbox, host string) []netip.Addr {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.get(s, false).live(host)
}

func (one *account) full(more int) bool { return one.count-len(one.pinned)+more > maxTold }

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
	maps.DeleteFunc(one.pinned, func(_ netip.AddrPort, p pinned) bool { return !now.Before(p.until) })
	one.count = len(one.pinned)
	maps.DeleteFunc(one.told, func(_ string, addrs map[netip.Addr]time.Time) bool {
		maps.DeleteFunc(addrs, func(_ netip.Addr, until time.Time) bool { return !now.Before(until) })
		one.count += len(addrs)
		return len(addrs) == 0
	})
}
