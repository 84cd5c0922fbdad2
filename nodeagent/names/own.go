package names

import (
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"
)

// own are the node's own addresses: those of its links, looked at anew every now and
// then, and those that its configuration adds.
type own struct {
	list  func() ([]netip.Addr, error)
	added []netip.Addr
	log   *slog.Logger

	mu     sync.Mutex // guards what follows
	known  map[netip.Addr]bool
	looked time.Time
}

// lookEvery is how soon a new address of the node is noticed. The rules are told by
// others; this only keeps answers and dials away from it.
const lookEvery = 2 * time.Second

func newOwn(o Options) *own {
	w := &own{list: o.Addresses, log: o.Log}
	for _, s := range o.Config.Network.NodeAddresses {
		if a, err := netip.ParseAddr(s); err == nil { // checked when it was read
			w.added = append(w.added, a.Unmap())
		}
	}
	return w
}

// has tells whether the address is the node's. As long as that is not known, all are.
func (w *own) has(addr netip.Addr) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.known == nil || time.Since(w.looked) > lookEvery {
		list, err := w.list()
		if err != nil {
			w.log.Error("look at the node's addresses; no name leads anywhere", "err", err)
			w.known = nil
			return true
		}
		w.known, w.looked = map[netip.Addr]bool{}, time.Now()
		for _, a := range append(list, w.added...) {
			w.known[a.Unmap()] = true
		}
	}
	return w.known[addr]
}

func hostAddresses() ([]netip.Addr, error) {
	list, err := net.InterfaceAddrs()
	if err != nil {
		return nil, err
	}
	var addrs []netip.Addr
	for _, a := range list {
		if prefix, err := netip.ParsePrefix(a.String()); err == nil {
			addrs = append(addrs, prefix.Addr())
		}
	}
	return addrs, nil
}
