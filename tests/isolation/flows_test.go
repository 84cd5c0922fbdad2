package isolation

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"brig/internal/netns"
	"brig/internal/netpolicy"
	"brig/internal/netpolicy/nft"
	"brig/internal/transit"
)

// change puts another policy in force for a sandbox that runs.
func (w *world) change(s *sandbox, spec netpolicy.Spec) { w.t.Helper(); w.changeFor(s, spec, 0) }

// lease does so for an hour.
func (w *world) lease(s *sandbox, spec netpolicy.Spec) { w.t.Helper(); w.changeFor(s, spec, time.Hour) }

func (w *world) changeFor(s *sandbox, spec netpolicy.Spec, lease time.Duration) {
	w.t.Helper()
	policy, err := netpolicy.Compile(spec, netpolicy.Ceiling{})
	w.must(err)
	w.must(w.onHost(func() error {
		return transit.With(w.t.Context(), &w.cfg, func(_ context.Context, n transit.Node) error {
			_, err := n.Change(s.link(), policy, 0, lease)
			return err
		})
	}))
}

// dial connects by TCP from a namespace to an echo, and tries it.
func (w *world) dial(ns string, to netip.Addr, port uint16) net.Conn {
	w.t.Helper()
	conn := w.plainDial(ns, to, port)
	w.must(say(conn, "hello"))
	return conn
}

// say something and read it back.
func say(conn net.Conn, word string) error {
	if err := conn.SetDeadline(time.Now().Add(3 * time.Second)); err != nil {
		return err
	}
	if _, err := conn.Write([]byte(word)); err != nil {
		return err
	}
	_, err := conn.Read(make([]byte, len(word)))
	return err
}

// pusher is a server that says what it is told to all who are connected.
type pusher struct {
	conns chan net.Conn
}

// push listens in a namespace; who connects gets nothing until told.
func (w *world) push(ns, address string) *pusher {
	w.t.Helper()
	var l net.Listener
	w.must(netns.Do(netns.Path(ns), func() (err error) { l, err = net.Listen("tcp", address); return err }))
	w.t.Cleanup(func() { l.Close() })
	p := &pusher{conns: make(chan net.Conn, 16)}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			w.t.Cleanup(func() { conn.Close() })
			p.conns <- conn
		}
	}()
	return p
}

// TestLiveFlows: a flow that is established ends, in both directions, with the next
// packet after its sandbox's policy is tightened, is made a block, or goes.
func TestLiveFlows(t *testing.T) {
	w := newWorld(t, "")
	w.liveFlows(serverAddr, "203.0.113.0/24", "198.51.100.0/24")
}

// TestLiveFlows6: the same by IPv6.
func TestLiveFlows6(t *testing.T) {
	w := newWorld(t, "")
	w.wire6()
	w.has6(w.sandbox("has6"))
	w.liveFlows(serverAddr6, "2001:db8:113::/64", "2001:db8:ffff::/64")
}

// liveFlows are to a server; named is a range with it, elsewhere one without.
func (w *world) liveFlows(to netip.Addr, named, elsewhere string) {
	w.listen(w.internet, ":80")
	for i, c := range []struct {
		name string
		ends func(*sandbox)
	}{
		{"tighten", func(s *sandbox) { w.change(s, netpolicy.Spec{CIDRAllowlist: &[]string{elsewhere}}) }},
		{"empty list", func(s *sandbox) { w.change(s, netpolicy.Spec{CIDRAllowlist: &[]string{}}) }},
		{"block", func(s *sandbox) { w.change(s, netpolicy.Spec{BlockNetwork: true}) }},
		{"DEL", func(s *sandbox) {
			_, err := w.cni(w.t.Context(), "DEL", s.id, netns.Path(s.ns), nil)
			w.must(err)
		}},
		{"a lease on a block", func(s *sandbox) { w.lease(s, netpolicy.Spec{BlockNetwork: true}) }},
		{"a lease on another list", func(s *sandbox) { w.lease(s, netpolicy.Spec{CIDRAllowlist: &[]string{elsewhere}}) }},
	} {
		w.t.Run(c.name, func(t *testing.T) {
			w := w.in(t)
			port := uint16(7000 + i)
			server := w.push(w.internet, fmt.Sprint(":", port))
			s := w.sandbox(fmt.Sprint("s", i))
			w.must(s.start(allow(named)))
			inside, outside := w.capture(s.ns, "eth0"), w.capture(w.internet, "eth0")
			conn := w.plainDial(s.ns, to, port)
			peer := <-server.conns
			word := func(what string) string { return fmt.Sprintf("<%s %d>", what, i) }
			write(w, conn, word("up, before"))
			write(w, peer, word("down, before"))
			if !outside.await(word("up, before")) || !inside.await(word("down, before")) {
				t.Fatal("the flow does not work before the change, so nothing is proven")
			}
			c.ends(s)
			// What is written now is sent at once: both windows are open.
			_, _ = conn.Write([]byte(word("up, after")))
			write(w, peer, word("down, after"))
			// The server's packet is on the wire before the sandbox could have it.
			if !outside.await(word("down, after")) {
				t.Fatal("the server did not send")
			}
			// A second sandbox's honest packets pass the same queues, both ways.
			w.roundTrip(fmt.Sprint("c", i), to)
			if outside.saw(word("up, after")) {
				t.Error("what the sandbox wrote after the change left")
			}
			if inside.saw(word("down, after")) {
				t.Error("what the server wrote after the change came in")
			}
		})
	}
}

func write(w *world, conn net.Conn, word string) {
	w.t.Helper()
	_, err := conn.Write([]byte(word))
	w.must(err)
}

func (w *world) plainDial(ns string, to netip.Addr, port uint16) net.Conn {
	w.t.Helper()
	var conn net.Conn
	w.must(netns.Do(netns.Path(ns), func() (err error) {
		conn, err = (&net.Dialer{Timeout: 5 * time.Second}).Dial("tcp", netip.AddrPortFrom(to, port).String())
		return err
	}))
	w.t.Cleanup(func() { conn.Close() })
	return conn
}

// roundTrip of a sandbox that is made for it, to an echo on the internet.
func (w *world) roundTrip(id string, to netip.Addr) {
	w.t.Helper()
	s := w.sandbox(id)
	w.must(s.start(nil))
	w.dial(s.ns, to, 80)
}

// TestTighteningIsHeard: the sandbox's end of a flow that a tighter policy cuts is reset
// at once rather than left to hang.
func TestTighteningIsHeard(t *testing.T) {
	w := newWorld(t, "")
	s := w.sandbox("s1")
	w.listen(w.internet, ":80")
	w.must(s.start(allow("203.0.113.0/24")))
	conn := w.dial(s.ns, serverAddr, 80)
	w.change(s, netpolicy.Spec{CIDRAllowlist: &[]string{"198.51.100.0/24"}})
	began := time.Now()
	err := say(conn, "x")
	if err == nil || !strings.Contains(err.Error(), "reset") || time.Since(began) > time.Second {
		t.Errorf("after tightening: %v in %v, want a reset at once", err, time.Since(began))
	}
	if chains := chainsOf(t, w); len(chains) != 1 {
		t.Errorf("the replaced policy's chains are left: %v", chains)
	}
}

// TestOnlyRepliesComeIn: whoever is outside reaches a sandbox only in reply, whatever the
// policy, and so does the host; the transit namespace does, for tunnels.
func TestOnlyRepliesComeIn(t *testing.T) {
	w := newWorld(t, "")
	s := w.sandbox("s1")
	w.must(s.start(nil))
	w.listen(s.ns, ":8080")
	w.listen(w.internet, ":80")
	wire := w.capture(s.ns, "eth0")
	var got table
	got.row("sandbox to the internet", try(s.ns, serverAddr, 80))
	got.row("transit to the sandbox", try(w.cfg.TransitName(), s.addr, 8080))
	got.row("host to the sandbox", try(w.host, s.addr, 8080))
	got.row("internet to the sandbox", try(w.internet, s.addr, 8080))
	got.compare(t, `
sandbox to the internet            open
transit to the sandbox             open
host to the sandbox                silence
internet to the sandbox            silence
`)
	// A server that the sandbox talks to reaches only the port that it talks from.
	w.inject(s.ns, "eth0", s.honest(serverAddr, "<out>").encode())
	other := w.capture(w.internet, "eth0")
	w.must(netns.Do(netns.Path(w.internet), func() error {
		for _, port := range []string{"4000", "4001"} {
			conn, err := (&net.Dialer{LocalAddr: &net.UDPAddr{Port: 9}}).Dial("udp4", "203.0.113.1:"+port)
			if err != nil {
				return err
			}
			defer conn.Close()
			if _, err := conn.Write([]byte("<in " + port + ">")); err != nil {
				return err
			}
			conn.Close()
		}
		return nil
	}))
	if !other.await("<in 4001>") {
		t.Fatal("the server's packet was not sent")
	}
	if !wire.await("<in 4000>") || wire.saw("<in 4001>") {
		t.Errorf("the reply came in: %t; another packet did: %t", wire.saw("<in 4000>"), wire.saw("<in 4001>"))
	}
}

// TestResolversFlowEnds: nor does a connection to the node's own resolver outlast the
// policy that gave it.
func TestResolversFlowEnds(t *testing.T) {
	w := newWorld(t, "")
	s := w.sandbox("s1")
	w.must(s.start(nil))
	resolver := w.push(w.cfg.TransitName(), "0.0.0.0:53")
	got := w.delivered(w.cfg.TransitName())
	conn := w.plainDial(s.ns, netip.MustParseAddr(nft.Gateway), 53)
	<-resolver.conns
	write(w, conn, "<while it may>")
	if !got.await("<while it may>") {
		t.Fatal("the connection does not work before the change, so nothing is proven")
	}
	w.change(s, netpolicy.Spec{CIDRAllowlist: &[]string{"203.0.113.0/25"}})
	_, _ = conn.Write([]byte("<when it may no more>"))
	open := w.sandbox("s2") // its packets come after that one, on the same way
	w.must(open.start(nil))
	write(w, w.plainDial(open.ns, netip.MustParseAddr(nft.Gateway), 53), "<another's>")
	if !got.await("<another's>") {
		t.Fatal("another one's connection does not work, so nothing is proven")
	}
	if got.saw("<when it may no more>") {
		t.Error("what the sandbox wrote after the change reached the resolver")
	}
}
