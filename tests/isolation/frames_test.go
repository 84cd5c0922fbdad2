package isolation

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"brig/internal/attachment"
)

// TestForgedFrames: nothing that a compromised sentry of an open sandbox puts on its
// link reaches the host, a sibling or the internet under another identity, or a place
// that no policy names.
func TestForgedFrames(t *testing.T) {
	w := newWorld(t, "")
	a, b := w.sandbox("s1"), w.sandbox("s2")
	w.must(a.start(nil))
	w.must(b.start(nil))
	wires := map[string]*capture{
		"host": w.capture(w.host, w.cfg.HostLink()), "internet": w.capture(w.internet, "eth0"), "sibling": w.capture(b.ns, "eth0"),
	}
	broadcast := net.HardwareAddr{255, 255, 255, 255, 255, 255}
	attacks := []struct {
		what   string
		change func(*frame)
	}{
		{"control", func(*frame) {}},
		{"source: sibling", func(f *frame) { f.from = b.addr }},
		{"source: host", func(f *frame) { f.from = hostAddr }},
		{"source: internet", func(f *frame) { f.from = otherAddr }},
		{"source: gateway", func(f *frame) { f.from = netip.MustParseAddr("169.254.1.1") }},
		{"source: host's link", func(f *frame) { f.from = netip.MustParseAddr("169.254.2.1") }},
		{"source: zero", func(f *frame) { f.from = netip.IPv4Unspecified() }},
		{"MAC: sibling", func(f *frame) { f.src = attachment.MAC(b.addr) }},
		{"MAC: gateway", func(f *frame) { f.src = attachment.GatewayMAC }},
		{"identity: sibling, whole", func(f *frame) { f.src, f.from = attachment.MAC(b.addr), b.addr }},
		{"to: host", func(f *frame) { f.to = hostAddr }},
		{"to: host's link", func(f *frame) { f.to = netip.MustParseAddr("169.254.2.1") }},
		{"to: sibling", func(f *frame) { f.to = b.addr }},
		{"to: sibling, its MAC", func(f *frame) { f.to, f.dst = b.addr, attachment.MAC(b.addr) }},
		{"to: itself", func(f *frame) { f.to = a.addr }},
		{"to: loopback", func(f *frame) { f.to = netip.MustParseAddr("127.0.0.1") }},
		{"to: metadata", func(f *frame) { f.to = netip.MustParseAddr("169.254.169.254") }},
		{"to: a cloud's metadata", func(f *frame) { f.to = netip.MustParseAddr("168.63.129.16") }},
		{"to: private", func(f *frame) { f.to = netip.MustParseAddr("192.168.1.1") }},
		{"to: multicast", func(f *frame) { f.to = netip.MustParseAddr("224.0.0.1") }},
		{"to: broadcast", func(f *frame) { f.to, f.dst = netip.MustParseAddr("255.255.255.255"), broadcast }},
		{"to: uplink's broadcast", func(f *frame) { f.to = netip.MustParseAddr("203.0.113.255") }},
		{"IPv6", func(f *frame) { f.kind, f.payload = 0x86dd, ipv6(f.payload) }},
		{"IPv6, to all", func(f *frame) {
			f.kind, f.payload, f.dst = 0x86dd, ipv6(f.payload), net.HardwareAddr{0x33, 0x33, 0, 0, 0, 1}
		}},
		{"ARP: gratuitous", func(f *frame) { f.kind, f.payload, f.dst = 0x0806, arp(f.payload), broadcast }},
		{"VLAN", func(f *frame) { f.kind, f.payload = 0x8100, "\x00\x01\x08\x00"+f.payload }},
		{"LLDP", func(f *frame) { f.kind, f.dst = 0x88cc, net.HardwareAddr{1, 0x80, 0xc2, 0, 0, 0x0e} }},
		{"control again", func(*frame) {}},
	}
	var frames [][]byte
	for i, attack := range attacks {
		f := a.honest(serverAddr, fmt.Sprintf("marker-%02d-here", i))
		attack.change(&f)
		frames = append(frames, f.encode())
	}
	w.inject(a.ns, "eth0", frames...)
	last := fmt.Sprintf("marker-%02d-here", len(attacks)-1)
	if !wires["internet"].await(last) {
		t.Fatal("the control's packet did not arrive, so nothing is proven")
	}
	for i, attack := range attacks {
		for place, wire := range wires {
			seen := wire.saw(fmt.Sprintf("marker-%02d-here", i))
			if want := strings.HasPrefix(attack.what, "control") && place != "sibling"; seen != want {
				t.Errorf("%s: seen by the %s: %t, want %t", attack.what, place, seen, want)
			}
		}
	}
}

// ipv6 is a UDP packet from one link-local address to another, around a marker.
func ipv6(marker string) string {
	body := string(udp(marker))
	header := "\x60\x00\x00\x00" + string([]byte{0, byte(len(body)), unix.IPPROTO_UDP, 64})
	return header + "\xfe\x80" + strings.Repeat("\x00", 13) + "\x01" + "\xff\x02" + strings.Repeat("\x00", 13) + "\x01" + body
}

// arp claims the gateway's address; the marker follows as padding.
func arp(marker string) string {
	return "\x00\x01\x08\x00\x06\x04\x00\x02" + "\x02\x66\x66\x66\x66\x66\xa9\xfe\x01\x01" + "\xff\xff\xff\xff\xff\xff\xa9\xfe\x01\x01" + marker
}

// TestFragmentsOfTwoSandboxes: the first fragment of one without a policy, forged in
// the name of one with, does not leave with the other's tail.
func TestFragmentsOfTwoSandboxes(t *testing.T) {
	w := newWorld(t, "")
	closed, open := w.sandbox("s1"), w.sandbox("s2")
	w.must(open.start(nil))
	wire := w.capture(w.internet, "eth0")
	fragments := func(head *sandbox, id uint16, marker string) {
		datagram := udp(marker + strings.Repeat(".", 64))
		first, tail := open.honest(serverAddr, ""), open.honest(serverAddr, "")
		first.id, first.fragment, first.transport = id, 0x2000, datagram[:40]
		tail.id, tail.fragment, tail.transport = id, 5, datagram[40:]
		w.inject(head.ns, "eth0", first.encode())
		w.inject(open.ns, "eth0", tail.encode())
	}
	fragments(closed, 7, "forged-head-of-a-datagram")
	fragments(open, 8, "honest-head-of-a-datagram")
	if !wire.await("honest-head") {
		t.Fatal("the honest datagram did not arrive, so nothing is proven")
	}
	if wire.saw("forged-head") {
		t.Error("a sandbox without a policy sent under its sibling's name")
	}
}

// TestFloodOfIdentities: a MAC flood teaches nobody anything.
func TestFloodOfIdentities(t *testing.T) {
	w := newWorld(t, "")
	s := w.sandbox("s1")
	w.must(s.start(nil))
	wire := w.capture(w.host, w.cfg.HostLink())
	var frames [][]byte
	for i := range 500 {
		f := s.honest(serverAddr, "flood-of-frames")
		f.src = net.HardwareAddr{2, 0x66, 0, 0, byte(i >> 8), byte(i)}
		frames = append(frames, f.encode())
	}
	w.inject(s.ns, "eth0", append(frames, s.honest(serverAddr, "control-of-frames").encode())...)
	if !wire.await("control-of-frames") || wire.saw("flood-of-frames") {
		t.Errorf("control arrived: %t; the flood arrived: %t", wire.saw("control-of-frames"), wire.saw("flood-of-frames"))
	}
}
