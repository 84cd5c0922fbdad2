package isolation

import (
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"brig/internal/netns"
)

// tracked connections of a sandbox in a namespace.
func (w *world) tracked(ns string, s *sandbox) (n int) {
	w.t.Helper()
	w.must(netns.Do(netns.Path(ns), func() error {
		flows, err := netlink.ConntrackTableList(netlink.ConntrackTable, unix.AF_INET)
		for _, f := range flows {
			if a, ok := netip.AddrFromSlice(f.Forward.SrcIP.To4()); ok && a == s.addr {
				n++
			}
		}
		return err
	}))
	return n
}

// flood sends one datagram from each of so many ports.
func (s *sandbox) flood(to netip.Addr, n int) (frames [][]byte) {
	for i := range n {
		f := s.honest(to, "")
		f.transport = udp(f.from, f.to, 9, "flood")
		from := uint16(1024 + i)
		f.transport[0], f.transport[1], f.transport[6], f.transport[7] = byte(from>>8), byte(from), 0, 0 // no checksum
		frames = append(frames, f.encode())
	}
	return frames
}

// TestConnectionsOfOneSandbox: one sandbox takes no more of the node's connection tables
// than the configuration says, here and in the host, and gives it back; a sibling is not
// kept from connecting.
func TestConnectionsOfOneSandbox(t *testing.T) {
	w := newWorld(t, "[network.limits]\nconnections = 300\nnew_connections = 0\n")
	greedy, sibling := w.sandbox("s1"), w.sandbox("s2")
	w.must(greedy.start(nil))
	w.must(sibling.start(nil))
	w.listen(w.internet, ":80")
	live := w.dial(greedy.ns, serverAddr, 80)
	w.inject(greedy.ns, "eth0", greedy.flood(serverAddr, 3000)...)
	w.dial(sibling.ns, serverAddr, 80) // after the flood on the same way
	for _, ns := range []string{w.cfg.TransitName(), w.host} {
		if n := w.tracked(ns, greedy); n > 310 || n < 100 {
			t.Errorf("%d connections of it are tracked in %s, want about 300", n, ns)
		}
	}
	w.must(say(live, "still here"))
	if got := try(greedy.ns, serverAddr, 80); got == "open" {
		t.Errorf("the greedy one opens one more: %s", got)
	}
}

// TestNewConnectionsOfOneSandbox: nor does one open more in a second than it may.
func TestNewConnectionsOfOneSandbox(t *testing.T) {
	w := newWorld(t, "[network.limits]\nconnections = 0\nnew_connections = 50\n")
	greedy, sibling := w.sandbox("s1"), w.sandbox("s2")
	w.must(greedy.start(nil))
	w.must(sibling.start(nil))
	w.listen(w.internet, ":80")
	began := time.Now()
	w.inject(greedy.ns, "eth0", greedy.flood(serverAddr, 3000)...)
	w.dial(sibling.ns, serverAddr, 80)
	may := 100 + 50*(1+int(time.Since(began)/time.Second)) // twice the rate at once
	if n := w.tracked(w.cfg.TransitName(), greedy); n > may || n < 10 {
		t.Errorf("it opened %d connections in %v", n, time.Since(began))
	}
}

// TestNATPortsOfOneSandbox: with the limits that stand when none are written, one sandbox
// cannot use up the node's ports towards a server, so that a sibling has none.
func TestNATPortsOfOneSandbox(t *testing.T) {
	w := newWorld(t, "")
	greedy, sibling := w.sandbox("s1"), w.sandbox("s2")
	w.must(greedy.start(nil))
	w.must(sibling.start(nil))
	wire := w.capture(w.internet, "eth0")
	w.inject(sibling.ns, "eth0", sibling.honest(serverAddr, "<before>").encode())
	if !wire.await("<before>") {
		t.Fatal("an honest packet does not arrive even before")
	}
	w.inject(greedy.ns, "eth0", greedy.flood(serverAddr, 64_400)...)
	if n := w.tracked(w.host, greedy); n > 20_000 {
		t.Errorf("%d ports of the node towards one server are one sandbox's", n)
	}
	for i := range 20 {
		f := sibling.honest(serverAddr, "")
		f.transport = udp(f.from, f.to, 9, marker("nat", i))
		f.transport[0], f.transport[1], f.transport[6], f.transport[7] = 0x60, byte(i), 0, 0
		w.inject(sibling.ns, "eth0", f.encode())
	}
	w.inject(sibling.ns, "eth0", sibling.honest(otherAddr, "<control>").encode())
	if !wire.await("<control>") {
		t.Fatal("a packet to another server does not arrive, so nothing is proven")
	}
	for i := range 20 {
		if !wire.saw(marker("nat", i)) {
			t.Fatalf("the sibling's flow %d has no port left", i)
		}
	}
}
