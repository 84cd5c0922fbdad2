package doctor

import (
	"bytes"
	"net/netip"
	"slices"
	"strings"
)

// protocols: a list holds for everything that runs over IP. Each is tried towards an
// address that the list does not name, and its control is the same to one that it does.
func protocols(p *plan) {
	both := func(name, what string, change func(f *frame, m []byte)) {
		p.add(name, what+", to an address that is not on the list", func(c *kase) {
			to := func(a netip.Addr) func(*frame, []byte) {
				return func(f *frame, m []byte) { f.to = a; change(f, m) }
			}
			c.forge(p.list, strings.ToLower(what), to(at(p.no, 1)))
			c.honestly(p.list, to(at(p.yes, 1)))
		})
	}
	carry := func(proto byte, body func(f *frame, m []byte) []byte) func(*frame, []byte) {
		return func(f *frame, m []byte) { f.proto, f.body = proto, body(f, m) }
	}
	plain := func(_ *frame, m []byte) []byte { return m }
	inner := func(m []byte) []byte { return p.honest(p.list, at(p.no, 1), m).packet() }
	both("UDP", "datagrams", func(*frame, []byte) {})
	both("UDP without checksum", "datagrams without a checksum", func(f *frame, m []byte) { f.body = udp(4001, 9, m) })
	both("QUIC", "QUIC's first datagram", func(f *frame, m []byte) {
		f.body = udp(4000, 443, append([]byte{0xc0, 0, 0, 0, 1, 8}, m...))
	})
	both("TCP", "the first segment of a connection", carry(protoTCP, func(f *frame, m []byte) []byte {
		return segment{from: 4002, to: 443, seq: 1, flags: flagSYN, payload: m}.encode(f.from, f.to)
	}))
	p.add("TCP without a connection", "segments ACK, SYN-ACK, RST and FIN of no connection, to an address that is not on the list", func(c *kase) {
		for _, flags := range []byte{flagACK, flagSYN | flagACK, flagRST, flagFIN | flagACK | flagPSH, 0} {
			c.forge(p.list, "TCP", func(f *frame, m []byte) {
				f.to, f.proto = at(p.no, 1), protoTCP
				f.body = segment{from: 4003, to: 443, seq: 1, ack: 1, flags: flags, payload: m}.encode(f.from, f.to)
			})
		}
		c.honestly(p.list, func(f *frame, m []byte) {
			f.proto = protoTCP
			f.body = segment{from: 4003, to: 443, seq: 1, flags: flagSYN, payload: m}.encode(f.from, f.to)
		})
	})
	both("SCTP", "an association", carry(protoSCTP, func(_ *frame, m []byte) []byte { return sctp(m) }))
	both("GRE", "a tunnel", carry(protoGRE, func(_ *frame, m []byte) []byte { return gre(inner(m)) }))
	both("IP in IP", "a tunnel", carry(protoIPIP, func(_ *frame, m []byte) []byte { return inner(m) }))
	both("IPv6 in IPv4", "a tunnel", carry(proto6in4, func(_ *frame, m []byte) []byte {
		return udp6(netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2"), m)
	}))
	both("ESP", "an encrypted tunnel", carry(protoESP, func(_ *frame, m []byte) []byte { return append([]byte{0, 0, 1, 0, 0, 0, 0, 1}, m...) }))
	both("UDP-Lite", "datagrams of UDP-Lite", carry(protoUDPL, func(_ *frame, m []byte) []byte { return udp(4000, 9, m) }))
	both("unknown protocol", "protocol 253", carry(253, plain))
	both("ICMP echo", "an ICMP tunnel", carry(protoICMP, func(_ *frame, m []byte) []byte { return icmp(8, 0, [4]byte{0, 7, 0, 1}, m) }))
}

// icmpCases: the errors and commands of ICMP reach nobody, for their quotations are
// a channel and their words are believed.
func icmpCases(p *plan) {
	quote := func(m []byte) []byte {
		f := frame{from: p.list.addr, to: at(p.yes, 1), proto: protoUDP, ttl: 64, body: udp(4000, 9, m)}
		return f.packet()
	}
	toSibling := func(name, what string, kind, code byte, rest [4]byte) {
		p.add(name, what, func(c *kase) {
			for _, from := range []netip.Addr{p.open.addr, gateway, at(p.yes, 1)} {
				c.forge(p.open, "from "+from.String(), func(f *frame, m []byte) {
					f.from, f.to, f.proto, f.body = from, p.list.addr, protoICMP, icmp(kind, code, rest, quote(m))
				})
			}
			c.honestly(p.open, nil)
		})
	}
	toSibling("ICMP redirect", "to a sibling, in three names", 5, 1, [4]byte{169, 254, 1, 1})
	toSibling("ICMP fragmentation needed", "to a sibling, in three names", 3, 4, [4]byte{0, 0, 2, 0})
	p.add("ICMP errors as a channel", "errors that quote no packet, to an address that is not on the list", func(c *kase) {
		for _, kind := range []byte{3, 4, 11, 12} {
			c.forge(p.list, "ICMP", func(f *frame, m []byte) {
				f.to, f.proto, f.body = at(p.no, 1), protoICMP, icmp(kind, 0, [4]byte{}, quote(m))
			})
		}
		c.honestly(p.list, nil)
	})
	p.add("multicast", "datagrams to groups, with the group's MAC and with the gateway's", func(c *kase) {
		for _, s := range []string{"224.0.0.1", "224.0.0.251", "239.255.255.250", "232.1.1.1"} {
			a := netip.MustParseAddr(s)
			g := a.As4()
			c.forge(p.open, s, func(f *frame, _ []byte) { f.to = a })
			c.forge(p.open, s, func(f *frame, _ []byte) { f.to, f.dst = a, []byte{1, 0, 0x5e, g[1] & 0x7f, g[2], g[3]} })
		}
		c.honestly(p.open, nil)
	})
	p.add("IGMP", "reports of membership", func(c *kase) {
		group := netip.MustParseAddr("239.1.2.3")
		for _, to := range []string{"239.1.2.3", "224.0.0.22", "224.0.0.1"} {
			c.forge(p.open, to, func(f *frame, m []byte) {
				f.to, f.proto, f.ttl, f.dst = netip.MustParseAddr(to), protoIGMP, 1, []byte{1, 0, 0x5e, 1, 2, 3}
				f.options, f.body = []byte{0x94, 4, 0, 0}, append(igmp(group, nil), m...)
			})
		}
		c.honestly(p.open, nil)
	})
	p.add("broadcast", "datagrams to everybody, and to the networks of the host", func(c *kase) {
		targets := append([]netip.Addr{netip.MustParseAddr("255.255.255.255")}, p.broadcast...)
		for _, a := range targets {
			c.forge(p.open, a.String(), func(f *frame, m []byte) { f.to, f.body = a, udp(4000, p.udp, m) })
			c.forge(p.open, a.String(), func(f *frame, m []byte) { f.to, f.dst, f.body = a, everybody, udp(4000, p.udp, m) })
		}
		c.honestly(p.open, nil)
	})
}

// options: what a header asks for on the way changes nothing.
func options(p *plan) {
	via := func(kind byte, hops ...netip.Addr) []byte {
		o := []byte{kind, byte(3 + 4*len(hops)), 4}
		for _, h := range hops {
			o = append(o, h.AsSlice()...)
		}
		return append(o, 0) // end of options
	}
	p.add("source routing", "through an allowed address to a private one, the host and a sibling", func(c *kase) {
		for _, kind := range []byte{0x83, 0x89} { // loose, strict
			for _, a := range []netip.Addr{netip.MustParseAddr("10.1.2.3"), p.host.addr, p.list.addr} {
				c.forge(p.open, "to "+a.String(), func(f *frame, _ []byte) { f.options = via(kind, a) })
				c.forge(p.open, "to "+a.String()+" by the gateway", func(f *frame, m []byte) { f.to, f.options, f.body = gateway, via(kind, a), udp(4000, p.udp, m) })
			}
		}
		c.honestly(p.open, nil)
	})
	p.add("IP options", "record route, timestamp, router alert, to an address that is not on the list", func(c *kase) {
		for _, o := range [][]byte{
			append([]byte{7, 15, 4}, make([]byte, 13)...), append([]byte{68, 12, 5, 0}, make([]byte, 8)...), {0x94, 4, 0, 0}, bytes.Repeat([]byte{1}, 40),
		} {
			c.forge(p.list, "option", func(f *frame, _ []byte) { f.to, f.options = at(p.no, 1), o })
		}
		c.honestly(p.list, nil)
	})
	p.add("TTL", "a packet that ends in the host draws no answer from it", func(c *kase) {
		for _, a := range []netip.Addr{at(p.yes, 5), at(p.no, 5)} {
			f := c.frame(p.open, "TTL 2", func(m []byte) []byte {
				return p.changed(p.open, m, func(f *frame, _ []byte) { f.to, f.ttl = a, 2 })
			})
			// It may come as far as the host, but not back.
			f.places = slices.Insert(p.outside(p.open)[:4:4], 0, inbox+p.open.name)
		}
		c.honestly(p.open, nil)
	})
}
