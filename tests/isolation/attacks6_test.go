package isolation

import (
	"encoding/binary"
	"maps"
	"net"
	"net/netip"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"brig/internal/attachment"
)

// The addresses of the world where it has IPv6.
var (
	hostAddr6   = netip.MustParseAddr("2001:db8:113::1")
	serverAddr6 = netip.MustParseAddr("2001:db8:113::2")
)

// wide6 is wide, and of IPv6 a part of the servers' network, and half
// of the internet, without 2000::/5.
var wide6 = allow("0.0.0.0/1", "128.0.0.0/2", "192.0.0.0/5", "203.0.113.0/25", "2001:db8:113::/80", "2a00::/12")

// wire6 gives host and internet IPv6, with a default route. The internet answers for its
// own addresses and receives for all.
func (w *world) wire6() {
	for _, args := range []string{"addr add 2001:db8:113::1/64 dev wan nodad", "addr add 2001:db8:99::1/128 dev lo nodad", "-6 route add default via 2001:db8:113::2"} {
		w.ip(w.host, args)
	}
	for _, args := range []string{
		"addr add 2001:db8:113::2/64 dev eth0 nodad", "addr add 2001:db8:113:0:ffff::130/64 dev eth0 nodad",
		"-6 route add local ::/0 dev lo table 100", "-6 rule add iif eth0 lookup 100 pref 10", "-6 route add default via 2001:db8:113::1",
	} {
		w.ip(w.internet, args)
	}
}

// TestHostileFrames6: the same on a node that has IPv6.
func TestHostileFrames6(t *testing.T) {
	w := newWorld(t, "[network]\nnode_addresses = [\"192.0.2.7\", \"2001:db8:77::7\"]\n"+unlimited)
	w.wire6()
	w.has6(w.sandbox("has6"))
	w.makeAll(hostile6(), wide6)
}

func (w *world) has6(s *sandbox) {
	w.t.Helper()
	if !s.addr6.IsValid() {
		w.t.Fatal("a sandbox of a node with an IPv6 default route has no IPv6")
	}
}

// TestHostileFrames6Off: on a node whose operator switched IPv6 off, or that has none,
// nothing of it leaves, whoever it pretends to be from.
func TestHostileFrames6Off(t *testing.T) {
	for name, six := range map[string]bool{"off": true, "none": false} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, "[network]\nipv6 = \""+map[bool]string{true: "off", false: "auto"}[six]+"\"\n"+unlimited)
			if six {
				w.wire6()
			}
			attacks := hostile6()
			for i := range attacks {
				attacks[i].open, attacks[i].listed = false, false
			}
			w.makeAll(attacks, wide)
		})
	}
}

// hostile6 are the attacks that are one or two frames of IPv6.
func hostile6() []attack {
	all := []attack{
		{"control of IPv6", true, true, one6(func(cast, *frame) {})},
		{"spoofed source: sibling", false, false, one6(func(c cast, f *frame) { f.from = c.sibling.addr6 })},
		{"spoofed source and MAC: sibling", false, false, one6(func(c cast, f *frame) { f.src, f.from = attachment.MAC(c.sibling.addr), c.sibling.addr6 })},
		{"spoofed MAC: sibling", false, false, one6(func(c cast, f *frame) { f.src = attachment.MAC(c.sibling.addr) })},
		{"spoofed MAC: gateway", false, false, one6(func(c cast, f *frame) { f.src = attachment.GatewayMAC })},
		{"to all by MAC, to a server by address", false, false, one6(func(c cast, f *frame) { f.dst = net.HardwareAddr{0x33, 0x33, 0, 0, 0, 1} })},
		{"sibling directly", false, false, one6(func(c cast, f *frame) { f.to = c.sibling.addr6 })},
		{"sibling directly, TCP", false, false, one6(func(c cast, f *frame) { f.to, f.proto, f.port = c.sibling.addr6, unix.IPPROTO_TCP, 8080 })},
		{"sibling directly, by its MAC", false, false, one6(func(c cast, f *frame) { f.to, f.dst = c.sibling.addr6, attachment.MAC(c.sibling.addr) })},
		{"to itself", false, false, one6(func(c cast, f *frame) { f.to = c.self.addr6 })},
		{"fragments to a server", false, false, fragments6},
		{"malformed: version 4 in a frame of IPv6", false, false, edit6(func(ip []byte) { ip[0] = 0x45 })},
		{"malformed: a hop limit of 0", false, false, edit6(func(ip []byte) { ip[7] = 0 })},
		{"malformed: a length beyond the frame", false, false, edit6(func(ip []byte) { ip[4] = 9 })},
	}
	for _, from := range []string{
		"2001:db8:113::1", "2001:db8:113::2", "2600::1", "fe80::1", "fe80::2", "::", "::1", "ff02::1", "::ffff:203.0.113.1", "::ffff:10.88.0.1", "64:ff9b::cb00:7101", "2002:cb00:7101::1", "fd00::1",
	} {
		all = append(all, attack{"spoofed source: " + from, false, false, one6(func(c cast, f *frame) { f.from = netip.MustParseAddr(from) })})
	}
	for name, to := range map[string]string{
		"host": "2001:db8:113::1", "host's second address": "2001:db8:99::1", "cloud-mapped address of the node": "2001:db8:77::7", "gateway": "fe80::1", "link-local": "fe80::2", "host by a link-local address of anybody": "fe80::ff:fe00:1",
		"all nodes": "ff02::1", "all nodes of this host": "ff01::1", "all routers": "ff02::2", "multicast DNS": "ff02::fb", "multicast, site": "ff05::2", "multicast, global": "ff0e::1", "DHCPv6 servers": "ff02::1:2",
		"loopback": "::1", "nobody": "::", "v4-mapped host": "::ffff:203.0.113.1", "v4-mapped server": "::ffff:203.0.113.2", "v4-compatible host": "::203.0.113.1",
		"NAT64 host": "64:ff9b::cb00:7101", "NAT64 metadata": "64:ff9b::a9fe:a9fe", "local NAT64": "64:ff9b:1::1", "6to4 host": "2002:cb00:7101::1", "Teredo": "2001:0:cb00:7101::1", "ORCHID": "2001:20::1",
		"metadata": "fd00:ec2::254", "private": "fd00::1", "site-local": "fec0::1", "discard": "100::1", "beyond the public space": "4000::1",
	} {
		addr := netip.MustParseAddr(to)
		all = append(all,
			attack{"to " + name, false, false, one6(func(c cast, f *frame) { f.to = addr })},
			attack{"TCP to " + name, false, false, one6(func(c cast, f *frame) { f.to, f.proto, f.port = addr, unix.IPPROTO_TCP, 22 })},
		)
		if addr.IsMulticast() {
			all = append(all, attack{"to " + name + ", by MAC", false, false, one6(func(c cast, f *frame) { f.to, f.dst = addr, groupMAC6(addr) })})
		}
	}
	for name, proto := range map[string]byte{
		"ICMPv6 echo": unix.IPPROTO_ICMPV6, "SCTP": unix.IPPROTO_SCTP, "GRE": unix.IPPROTO_GRE, "IPv4 in IPv6": unix.IPPROTO_IPIP, "IPv6 in IPv6": unix.IPPROTO_IPV6, "protocol 200": 200,
	} {
		for where, to := range map[string]func(cast) netip.Addr{
			"a listed address":              func(c cast) netip.Addr { return six(c.listed, "2a00::") },
			"an address that is not listed": func(c cast) netip.Addr { return six(c.unlisted, "2600::") },
			"the sibling":                   func(c cast) netip.Addr { return c.sibling.addr6 },
			"the host":                      func(cast) netip.Addr { return hostAddr6 },
			"all nodes":                     func(cast) netip.Addr { return netip.MustParseAddr("ff02::1") },
		} {
			open, listed := where == "a listed address" || where == "an address that is not listed", where == "a listed address"
			all = append(all, attack{name + " to " + where, open, listed, one6(func(c cast, f *frame) { f.to, f.proto, f.port = to(c), proto, 9 })})
		}
	}
	all = append(append(all, extensions()...), neighbours()...)
	return all
}

// six is an address that differs as a differs.
func six(a netip.Addr, prefix string) netip.Addr {
	b := netip.MustParseAddr(prefix).As16()
	copy(b[12:], a.AsSlice())
	return netip.AddrFrom16(b)
}

// one6 is a datagram to a listed server, changed.
func one6(change func(cast, *frame)) func(cast, string) [][]byte {
	return func(c cast, marker string) [][]byte {
		f := c.self.honest(serverAddr6, marker)
		change(c, &f)
		return [][]byte{f.encode()}
	}
}

func edit6(change func(ip []byte)) func(cast, string) [][]byte {
	return func(c cast, marker string) [][]byte {
		b := c.self.honest(serverAddr6, marker).encode()
		change(b[14:])
		return [][]byte{b}
	}
}

func groupMAC6(a netip.Addr) net.HardwareAddr {
	b := a.As16()
	return net.HardwareAddr{0x33, 0x33, b[12], b[13], b[14], b[15]}
}

// fragments6 is a datagram in two parts, the marker in both.
func fragments6(c cast, marker string) [][]byte {
	datagram := udp(c.self.addr6, serverAddr6, 9, marker+marker+marker)
	cut := len(datagram) / 2 / 8 * 8
	first, tail := c.self.honest(serverAddr6, ""), c.self.honest(serverAddr6, "")
	first.proto, first.transport = 44, append([]byte{unix.IPPROTO_UDP, 0, 0, 1, 0, 0, 0, 7}, datagram[:cut]...)
	tail.proto, tail.transport = 44, append([]byte{unix.IPPROTO_UDP, 0, byte(cut >> 8), byte(cut), 0, 0, 0, 7}, datagram[cut:]...)
	return [][]byte{first.encode(), tail.encode()}
}

// extensions are datagrams to a listed server behind an extension header.
func extensions() []attack {
	var all []attack
	for name, header := range map[string]struct {
		proto byte
		bytes []byte // after the next header's number
	}{
		"hop-by-hop options": {0, []byte{0, 1, 4, 0, 0, 0, 0}}, "router alert": {0, []byte{0, 5, 2, 0, 0, 1, 0}}, "destination options": {60, []byte{0, 1, 4, 0, 0, 0, 0}},
		"routing of type 0": {43, append([]byte{2, 0, 1, 0, 0, 0, 0}, hostAddr6.AsSlice()...)}, "routing of type 4": {43, append([]byte{2, 4, 1, 0, 0, 0, 0}, hostAddr6.AsSlice()...)},
		"an atomic fragment": {44, []byte{0, 0, 0, 0, 0, 0, 9}}, "authentication": {51, []byte{4, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}},
		"mobility": {135, []byte{0, 0, 0, 0, 0, 0, 0}}, "host identity": {139, []byte{0, 0, 0, 0, 0, 0, 0}}, "shim6": {140, []byte{0, 0, 0, 0, 0, 0, 0}},
	} {
		for where, to := range map[string]netip.Addr{"a server": serverAddr6, "the host": hostAddr6} {
			all = append(all, attack{name + " to " + where, false, false, one6(func(_ cast, f *frame) {
				f.to = to
				datagram := f.body()
				f.proto, f.transport = header.proto, append(append([]byte{unix.IPPROTO_UDP}, header.bytes...), datagram...)
			})})
		}
	}
	return append(all, attack{"no next header", false, false, one6(func(_ cast, f *frame) { f.to, f.proto, f.transport = hostAddr6, 59, []byte(f.payload) })})
}

// neighbours are what a router or a neighbour says, each to all, to the gateway and to a
// server; the marker follows the message's body.
func neighbours() []attack {
	var all []attack
	zeros := func(n int) []byte { return make([]byte, n) }
	messages := map[string]struct {
		kind byte
		body func(cast) []byte
	}{
		"router advertisement": {134, func(cast) []byte { return append([]byte{255, 0x08, 0xff, 0xff}, zeros(8)...) }},
		"router solicitation":  {133, func(cast) []byte { return zeros(4) }},
		"neighbour claim: gateway": {136, func(cast) []byte {
			return append([]byte{0xa0, 0, 0, 0}, netip.MustParseAddr("fe80::1").AsSlice()...)
		}},
		"neighbour claim: server":  {136, func(cast) []byte { return append([]byte{0xa0, 0, 0, 0}, serverAddr6.AsSlice()...) }},
		"neighbour claim: sibling": {136, func(c cast) []byte { return append([]byte{0xa0, 0, 0, 0}, c.sibling.addr6.AsSlice()...) }},
		"neighbour solicitation":   {135, func(cast) []byte { return append(zeros(4), hostAddr6.AsSlice()...) }},
		"redirect": {137, func(c cast) []byte {
			return append(append(zeros(4), c.self.addr6.AsSlice()...), serverAddr6.AsSlice()...)
		}},
		"listener report":      {143, func(cast) []byte { return append(zeros(3), 1) }},
		"listener report, old": {131, func(cast) []byte { return append(zeros(4), netip.MustParseAddr("ff02::fb").AsSlice()...) }},
		"renumbering":          {138, func(cast) []byte { return zeros(12) }},
	}
	for _, name := range slices.Sorted(maps.Keys(messages)) {
		m := messages[name]
		for _, from := range []string{"own", "link-local", "gateway's"} {
			for where, to := range map[string]netip.Addr{"all": netip.MustParseAddr("ff02::1"), "the gateway": netip.MustParseAddr("fe80::1"), "the host": hostAddr6} {
				all = append(all, attack{name + " from its " + from + " address to " + where, false, false, one6(func(c cast, f *frame) {
					switch from {
					case "link-local":
						f.from = netip.MustParseAddr("fe80::2")
					case "gateway's":
						f.from = netip.MustParseAddr("fe80::1")
					}
					f.to, f.proto = to, unix.IPPROTO_ICMPV6
					if to.IsMulticast() {
						f.dst = groupMAC6(to)
					}
					f.transport = append(append([]byte{m.kind, 0, 0, 0}, m.body(c)...), f.payload...)
					binary.BigEndian.PutUint16(f.transport[2:], checksum(append(pseudo(f.from, f.to, f.proto, len(f.transport)), f.transport...)))
				})})
			}
		}
	}
	return all
}

// TestFirstSandboxHasIPv6: the pool's first address is nobody else's.
func TestFirstSandboxHasIPv6(t *testing.T) {
	w := newWorld(t, "")
	w.wire6()
	first := w.sandbox("first")
	w.has6(first)
	w.must(first.start(nil))
	w.listen(w.internet, ":80")
	w.dial(first.ns, serverAddr6, 80)
}
