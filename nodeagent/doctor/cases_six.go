package doctor

import (
	"net/netip"

	"brig/internal/attachment"
)

// The ranges of IPv6 for documentation that the list names, and that it does not.
var (
	yes6 = netip.MustParsePrefix("2001:db8:64::/64")
	no6  = netip.MustParsePrefix("2001:db8:128::/64")
)

// ownSix: on a node whose sandboxes have IPv6 it is held to the same.
func ownSix(p *plan) {
	row := func(name, what string, build func(*kase)) {
		p.add(name, what, func(c *kase) {
			switch {
			case !p.six:
				c.unfit = "the sandboxes of this node have no IPv6, and what they send of it is tried above"
			case p.open.addr6.IsValid() && p.list.addr6.IsValid():
				build(c)
			}
		})
	}
	send := func(c *kase, from *box, what string, packet func(m []byte) []byte) {
		c.frame(from, what, func(m []byte) []byte { return wrap6(from, packet(m)) })
	}
	allowed := func(c *kase, from *box) {
		c.control(from, func(m []byte) []byte { return wrap6(from, udp6(from.addr6, at(yes6, 1), m)) })
	}
	row("IPv6: not on the list", "datagrams, echoes and connections of the sandbox's own address", func(c *kase) {
		own := p.list.addr6
		send(c, p.list, "UDP", func(m []byte) []byte { return udp6(own, at(no6, 1), m) })
		send(c, p.list, "ping", func(m []byte) []byte { return icmp6(own, at(no6, 1), 128, [4]byte{0, 1}, m) })
		send(c, p.list, "TCP", func(m []byte) []byte {
			s := segment{from: 4000, to: 443, seq: 1, flags: flagSYN, payload: m}.encode(p.list.addr, p.list.addr)
			s[16], s[17] = 0, 0
			return ipv6(own, at(no6, 1), protoTCP, 64, over6(own, at(no6, 1), protoTCP, s, 16))
		})
		allowed(c, p.list)
	})
	row("IPv6: spoofed address", "in the name of a sibling, the gateway and outside addresses", func(c *kase) {
		for _, a := range []netip.Addr{p.list.addr6, netip.MustParseAddr("fe80::1"), at(yes6, 2), at(no6, 2)} {
			send(c, p.open, "from "+a.String(), func(m []byte) []byte { return udp6(a, at(yes6, 1), m) })
		}
		allowed(c, p.open)
	})
	row("IPv6: host and sibling", "their addresses, from the sandbox's own", func(c *kase) {
		for _, a := range append([]netip.Addr{p.list.addr6, netip.MustParseAddr("fe80::1"), linkLocal(p.host.mac)}, p.hosts6...) {
			send(c, p.open, "UDP "+a.String(), func(m []byte) []byte { return udp6(p.open.addr6, a, m) })
			send(c, p.open, "ping "+a.String(), func(m []byte) []byte { return icmp6(p.open.addr6, a, 128, [4]byte{0, 2}, m) })
		}
		allowed(c, p.open)
	})
	row("IPv6: never", "metadata, local, mapped and translated addresses, from the sandbox's own", func(c *kase) {
		for _, s := range []string{"fd00:ec2::254", "fd12:3456::1", "64:ff9b::a00:1", "::ffff:10.0.0.1", "2002:a00:1::1", "ff0e::1"} {
			send(c, p.open, s, func(m []byte) []byte { return udp6(p.open.addr6, netip.MustParseAddr(s), m) })
		}
		allowed(c, p.open)
	})
	row("IPv6: extension headers, own", "hop-by-hop, routing, fragment and destination headers", func(c *kase) {
		for _, header := range []byte{0, 43, 44, 60} {
			send(c, p.open, "header", func(m []byte) []byte {
				body := over6(p.open.addr6, at(yes6, 1), protoUDP, udp(4000, 9, m), 6)
				return ipv6(p.open.addr6, at(yes6, 1), header, 64, append([]byte{protoUDP, 0, 0, 0, 0, 0, 0, 0}, body...))
			})
		}
		allowed(c, p.open)
	})
}

// wrap6 is the frame around an IPv6 packet of a sandbox.
func wrap6(from *box, packet []byte) []byte {
	return frame{dst: attachment.GatewayMAC, src: attachment.MAC(from.addr), kind: etherIPv6, body: packet}.encode()
}
