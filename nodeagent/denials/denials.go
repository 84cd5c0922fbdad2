// Package denials tells what the node's rules and its helpers have refused a sandbox.
//
// Packets come from the kernel, which logs a refused packet's first bytes to a netlink
// group in the transit namespace, limited in rate per link; names come from brigd's own
// resolver and proxy by Denied. Both are collapsed: of what is refused alike within a
// second the first is passed on at once and the others as one with a count, and of one
// link no more than a few different ones. So a sandbox that is refused a million times
// costs neither memory nor its neighbours' events; what was not passed on is counted.
//
// A packet is what a hostile sandbox made of it: nothing of it is believed but the link
// that it came by, which the kernel says. Nothing here decides anything: a Watcher that
// does not run loses events, never isolation.
//
// A Watcher is safe for concurrent use. Its sink must not block.
package denials

import (
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// Reason of a denial, in a word.
type Reason string

// The reasons that the node's rules give, and those of brigd's own helpers.
const (
	Identity Reason = "identity" // not the address or MAC that the link has
	Node     Reason = "node"     // an address of the node itself
	Never    Reason = "never"    // a private, metadata or reserved address
	Policy   Reason = "policy"   // not named by the policy
	Unbound  Reason = "unbound"  // there is no policy yet
	Limit    Reason = "limit"    // too many connections
	Sibling  Reason = "sibling"  // another sandbox
	Service  Reason = "service"  // a port of the node that the policy does not have, its resolver's too
	DNS      Reason = "dns"      // a name that is not answered for
	SNI      Reason = "sni"      // TLS to a name that the policy does not list, or that the address is not
	// More stands for different denials of one link within a second, beyond those told apart.
	More Reason = "more"
	// Other is any that this version does not know.
	Other Reason = "other"
)

var reasons = []Reason{Identity, Node, Never, Policy, Unbound, Limit, Sibling, Service, DNS, SNI}

// Reasons are those that are counted apart.
func Reasons() []Reason { return append(slices.Clone(reasons), Other) }

// Denial is something refused, or several alike.
type Denial struct {
	At time.Time // when the last was seen
	// Link that it came by, in the transit namespace; empty if that is gone.
	Link   string
	Reason Reason
	Flow
	// Name that was asked for, or that the destination stood for when it was last
	// resolved for this sandbox; empty: not known.
	Name string
	// Count of what this stands for; at least 1.
	Count uint64
}

// Flow is what is known of a packet.
type Flow struct {
	// Protocol is an IP protocol's number; 0: not known.
	Protocol uint8
	Src, Dst netip.Addr
	// Ports, of TCP, UDP and SCTP alone.
	SrcPort, DstPort uint16
}

// Config of a Watcher.
type Config struct {
	// Sink gets every denial that is passed on. It must not block.
	Sink func(Denial)
	// Count, if set, is called for every denial, also those that are not passed on.
	Count func(Reason)
	// Lost, if set, is called when the kernel had denials that were not read in time.
	Lost func()
	Log  *slog.Logger
}

// Watcher collapses denials and passes them on.
type Watcher struct {
	cfg   Config
	names *Names

	mu     sync.Mutex // guards what follows
	recent map[string]*recent
	counts map[string]map[Reason]uint64
}

// New returns a Watcher that hears Denied at once, and of packets while Keep runs.
func New(cfg Config) *Watcher {
	return &Watcher{cfg: cfg, names: newNames(), recent: map[string]*recent{}, counts: map[string]map[Reason]uint64{}}
}

// Names are the names that addresses stand for; who resolves for sandboxes feeds it by
// Learn.
func (w *Watcher) Names() *Names { return w.names }

// Denied takes the denial of a name: a question not answered, or a connection refused
// for its name, to dst if an address was in play. A name is a sandbox's own bytes.
func (w *Watcher) Denied(link, reason, name string, dst netip.AddrPort) {
	d := Denial{At: time.Now(), Link: link, Reason: Reason(reason), Name: printable(name), Count: 1}
	if dst.IsValid() {
		d.Flow = Flow{Dst: dst.Addr().Unmap(), DstPort: dst.Port()}
	}
	if dst.Port() != 0 {
		d.Protocol = protocolTCP
	}
	w.take(d)
}

// Learn that a name led the link's sandbox to an address.
func (w *Watcher) Learn(link string, addr netip.Addr, name string) { w.names.Learn(link, addr, name) }

// maxCounted links have counts of their own; an arbitrary one gives way to another.
const maxCounted = 16384

// Counts of what a link was refused, by reason, since brigd began to look; the kernel
// limits the rate at which it tells, so they are the least that it can have been.
func (w *Watcher) Counts(link string) map[Reason]uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	counts := map[Reason]uint64{}
	for reason, n := range w.counts[link] {
		counts[reason] = n
	}
	return counts
}

// Forget drops what is kept of a link that is gone.
func (w *Watcher) Forget(link string) {
	w.names.forget(link)
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.counts, link)
}

func (w *Watcher) count(link string, reason Reason) {
	of := w.counts[link]
	if of == nil {
		if len(w.counts) >= maxCounted {
			for other := range w.counts {
				delete(w.counts, other)
				break
			}
		}
		of = map[Reason]uint64{}
		w.counts[link] = of
	}
	of[reason]++
}
