package tunnel

import (
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Limits of connections that are open at once. One that is 0 lets nobody in.
type Limits struct {
	Node    int // of all tunnels
	Sandbox int // of one sandbox's
	Tunnel  int
	Source  int // of one source through one tunnel; of IPv6 a source is a /64
}

// Afford lowers the node's limit to what half of the process's descriptors are enough
// for, so that connections never take the last one from accepts, execs or the store. A
// connection has two.
func (l Limits) Afford() (Limits, error) {
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err != nil {
		return l, fmt.Errorf("ask how many files may be open: %w", err)
	}
	if most := files.Cur / 4; uint64(l.Node) > most {
		l.Node = int(most)
	}
	return l, nil
}

// Pool counts the connections of all tunnels of a node, and knows whose their ports are.
type Pool struct {
	limits Limits

	mu    sync.Mutex // guards what follows, and every count of shares and tunnels
	open  int
	ports map[uint16]bool
}

// NewPool returns one without connections and ports.
func NewPool(l Limits) *Pool { return &Pool{limits: l, ports: map[uint16]bool{}} }

// Share is one sandbox's part of a Pool, and what has gone through its tunnels, those
// that were closed too.
type Share struct {
	pool    *Pool
	open    int // guarded by pool.mu
	traffic traffic
}

// Share returns a new one.
func (p *Pool) Share() *Share { return &Share{pool: p} }

// Bytes that came in and went out through all tunnels, TLS not counted.
func (s *Share) Bytes() (in, out uint64) { return s.traffic.bytes() }

// sources counts a tunnel's connections by source; guarded by the pool's mu.
type sources map[netip.Addr]int

// take a slot in every limit, or in none: then it says which one is reached.
func (s *Share) take(by sources, all *int, source netip.Addr) error {
	l := s.pool.limits
	s.pool.mu.Lock()
	defer s.pool.mu.Unlock()
	for _, x := range []struct {
		open, most int
		of         string
	}{{by[source], l.Source, "a source"}, {*all, l.Tunnel, "a tunnel"}, {s.open, l.Sandbox, "a sandbox"}, {s.pool.open, l.Node, "the node"}} {
		if x.open >= x.most {
			return fmt.Errorf("%d connections of %s are open", x.open, x.of)
		}
	}
	by[source]++
	*all++
	s.open++
	s.pool.open++
	return nil
}

func (s *Share) give(by sources, all *int, source netip.Addr) {
	s.pool.mu.Lock()
	defer s.pool.mu.Unlock()
	if by[source]--; by[source] == 0 {
		delete(by, source)
	}
	*all--
	s.open--
	s.pool.open--
}

// count reads one of the counts that take and give change.
func (s *Share) count(of *int) int {
	s.pool.mu.Lock()
	defer s.pool.mu.Unlock()
	return *of
}

// counted is what of a source is limited. Of IPv6 everybody has a whole /64.
func counted(source netip.Addr) netip.Addr {
	if source.Is4() {
		return source
	}
	whole, err := source.WithZone("").Prefix(64)
	if err != nil {
		return source // it is invalid: all of those are one
	}
	return whole.Addr()
}

// traffic counts bytes.
type traffic struct{ in, out atomic.Uint64 }

func (t *traffic) bytes() (in, out uint64) { return t.in.Load(), t.out.Load() }
