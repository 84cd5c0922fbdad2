package denials

import (
	"net/netip"
	"sync"
	"time"
)

// The bounds of what is remembered. A link that resolves more loses its oldest.
const (
	maxNamesOfOne = 512
	maxNamedLinks = 8192
	// keepNames is how long an address stands for its name, whatever the name's TTL:
	// programs hold on to addresses, and a denial that names one is for people.
	keepNames = time.Hour
)

// Names remembers, per link, which name an address was last resolved from. It says
// nothing of what is admitted. Safe for concurrent use.
type Names struct {
	now func() time.Time

	mu    sync.Mutex // guards what follows
	links map[string]*named
}

type named struct {
	names map[netip.Addr]learned
	order []netip.Addr // as learned, oldest first; no address twice
}

type learned struct {
	name string
	at   time.Time
}

func newNames() *Names { return &Names{now: time.Now, links: map[string]*named{}} }

// Learn that the name led this link's sandbox to the address.
func (n *Names) Learn(link string, addr netip.Addr, name string) {
	addr = addr.Unmap()
	n.mu.Lock()
	defer n.mu.Unlock()
	of := n.links[link]
	if of == nil {
		if len(n.links) >= maxNamedLinks {
			for other := range n.links {
				delete(n.links, other)
				break
			}
		}
		of = &named{names: map[netip.Addr]learned{}}
		n.links[link] = of
	}
	if _, again := of.names[addr]; !again {
		if len(of.order) >= maxNamesOfOne {
			delete(of.names, of.order[0])
			of.order = append(of.order[:0], of.order[1:]...)
		}
		of.order = append(of.order, addr)
	}
	of.names[addr] = learned{name: printable(name), at: n.now()}
}

// Of is the name that the address last stood for, or empty.
func (n *Names) Of(link string, addr netip.Addr) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	of := n.links[link]
	if of == nil {
		return ""
	}
	l, ok := of.names[addr.Unmap()]
	if !ok || n.now().Sub(l.at) > keepNames {
		return ""
	}
	return l.name
}

func (n *Names) forget(link string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.links, link)
}
