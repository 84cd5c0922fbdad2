package doctor

import (
	"net"
	"net/netip"

	"brig/internal/attachment"
)

// identity: nobody sends under another's name.
func identity(p *plan) {
	as := func(name, what string, froms ...netip.Addr) {
		p.add(name, what, func(c *kase) {
			for _, a := range froms {
				c.forge(p.open, "from "+a.String(), func(f *frame, _ []byte) { f.from = a })
			}
			c.honestly(p.open, nil)
		})
	}
	as("spoofed address: sibling", "datagrams in the name of another sandbox", p.list.addr, p.deny.addr)
	as("spoofed address: host", "datagrams in the name of the node's own addresses", p.hosts...)
	as("spoofed address: internet", "datagrams in the name of outside addresses", at(p.no, 2), at(p.yes, 2))
	as("spoofed address: gateway", "datagrams in the name of the transit namespace", gateway, p.up.addr)
	as("spoofed address: nobody", "source 0.0.0.0 and 127.0.0.1", netip.IPv4Unspecified(), netip.MustParseAddr("127.0.0.1"))
	as("spoofed address: everybody", "source 255.255.255.255 and multicast", netip.MustParseAddr("255.255.255.255"), netip.MustParseAddr("224.0.0.1"))

	macs := func(name, what string, list ...net.HardwareAddr) {
		p.add(name, what, func(c *kase) {
			for _, mac := range list {
				c.forge(p.open, "from "+mac.String(), func(f *frame, _ []byte) { f.src = mac })
			}
			c.honestly(p.open, nil)
		})
	}
	macs("spoofed MAC: sibling", "the own address from another sandbox's MAC", attachment.MAC(p.list.addr))
	macs("spoofed MAC: node", "the own address from the gateway's and the host's MAC", attachment.GatewayMAC, p.host.mac, p.up.mac)
	macs("spoofed MAC: group", "the own address from broadcast and multicast MACs",
		net.HardwareAddr{255, 255, 255, 255, 255, 255}, net.HardwareAddr{1, 0, 0x5e, 0, 0, 1})

	p.add("spoofed identity, whole", "MAC and address of another sandbox together", func(c *kase) {
		for _, b := range []*box{p.list, p.deny} {
			c.forge(p.open, "as sandbox "+b.name, func(f *frame, _ []byte) { f.src, f.from = attachment.MAC(b.addr), b.addr })
		}
		c.honestly(p.open, nil)
		c.honestly(p.list, nil)
	})
	p.add("MAC flood", "frames from many MACs teach nobody anything", func(c *kase) {
		for i := range 64 {
			c.forge(p.open, "flood", func(f *frame, _ []byte) { f.src = net.HardwareAddr{2, 0x66, 0, 0, 0, byte(i)} })
		}
		c.honestly(p.open, nil)
	})
}

// beforePolicy: an attachment that has no policy yet gets nothing out.
func beforePolicy(p *plan) {
	p.add("before a policy: outside", "datagrams and connections of an attachment without a policy", func(c *kase) {
		c.forge(p.deny, "UDP", nil)
		c.forge(p.deny, "UDP/443", func(f *frame, m []byte) { f.body = udp(4000, 443, m) })
		c.forge(p.deny, "ICMP", func(f *frame, m []byte) { f.proto, f.body = protoICMP, icmp(8, 0, [4]byte{}, m) })
		c.frame(p.deny, "TCP", func(m []byte) []byte { return p.syn(p.deny, at(p.yes, 1), 80, m) })
		c.control(p.open, func(m []byte) []byte { return p.syn(p.open, at(p.yes, 1), 80, m) })
		c.honestly(p.open, nil)
	})
	p.add("before a policy: inside", "the same to the node, its resolver and a sibling", func(c *kase) {
		for _, a := range []netip.Addr{p.hosts[0], gateway, p.up.addr, p.list.addr} {
			c.forge(p.deny, "UDP to "+a.String(), func(f *frame, m []byte) { f.to, f.body = a, udp(4000, p.inner, m) })
			c.forge(p.deny, "UDP to "+a.String(), func(f *frame, m []byte) { f.to, f.body = a, udp(4000, p.udp, m) })
		}
		c.honestly(p.open, nil)
	})
}

// syn opens a connection, and carries the marker, which is odd but allowed.
func (p *plan) syn(from *box, to netip.Addr, port uint16, marker []byte) []byte {
	f := p.honest(from, to, nil)
	f.proto = protoTCP
	f.body = segment{from: 4000, to: port, seq: 1, flags: flagSYN, payload: marker}.encode(from.addr, to)
	return f.encode()
}

// fragments: what is put together again has one sender.
func fragments(p *plan) {
	halves := func(from *box, to netip.Addr, id uint16, cut int, m []byte) (head, tail frame) {
		datagram := udp(4000, 9, append(m, make([]byte, 64)...))
		head, tail = p.honest(from, to, nil), p.honest(from, to, nil)
		head.id, head.fragment, head.body = id, 0x2000, datagram[:cut]
		tail.id, tail.fragment, tail.body = id, uint16(cut/8), datagram[cut:]
		return head, tail
	}
	// send is a datagram in two fragments, the head from one and the tail from another.
	send := func(a func(*box, string, func([]byte) []byte), head, tail *box, to netip.Addr, id uint16, cut int) {
		var second frame
		a(head, "fragments", func(m []byte) []byte {
			first, rest := halves(tail, to, id, cut, m)
			second = rest
			return first.encode()
		})
		p.shots = append(p.shots, shot{tail, second.encode()})
	}
	try := func(c *kase) func(*box, string, func([]byte) []byte) {
		return func(b *box, what string, f func([]byte) []byte) { c.frame(b, what, f) }
	}
	control := func(c *kase) func(*box, string, func([]byte) []byte) {
		return func(b *box, _ string, f func([]byte) []byte) { c.control(b, f) }
	}
	p.add("fragments of two sandboxes", "a forged head borrows its tail from a sibling", func(c *kase) {
		send(try(c), p.deny, p.open, at(p.yes, 3), 0x6001, 56)
		send(try(c), p.list, p.open, at(p.yes, 3), 0x6002, 56)
		send(control(c), p.open, p.open, at(p.yes, 3), 0x6003, 56)
	})
	p.add("fragments, tiny", "eight bytes, so that a filter sees no port", func(c *kase) {
		send(try(c), p.list, p.list, at(p.no, 3), 0x6004, 8)
		send(control(c), p.list, p.list, at(p.yes, 3), 0x6005, 8)
	})
	p.add("fragments, oversized", "beyond the end of what a packet can be", func(c *kase) {
		send(try(c), p.list, p.list, at(p.no, 3), 0x6006, 56)
		c.forge(p.list, "beyond 65535", func(f *frame, m []byte) {
			f.to, f.fragment, f.body = at(p.no, 3), 0x1fff, append(m, make([]byte, 512)...)
		})
		send(control(c), p.list, p.list, at(p.yes, 3), 0x6007, 56)
	})
	p.add("fragments, overlapping", "a second head with another destination port", func(c *kase) {
		c.forge(p.list, "head", func(f *frame, m []byte) {
			f.to, f.id, f.fragment, f.body = at(p.no, 4), 0x6008, 0x2000, udp(4000, 9, append(m, make([]byte, 7)...))[:40]
		})
		c.forge(p.list, "overlap", func(f *frame, m []byte) {
			f.to, f.id, f.fragment, f.body = at(p.no, 4), 0x6008, 1, append(m, make([]byte, 16)...)
		})
		send(control(c), p.list, p.list, at(p.yes, 4), 0x6009, 56)
	})
}
