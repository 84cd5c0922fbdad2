package doctor

import (
	"net"
	"net/netip"
	"strings"

	"brig/internal/attachment"
)

var everybody = net.HardwareAddr{255, 255, 255, 255, 255, 255}

// linkLayer: nothing but IP between the two known ends of a link passes it.
func linkLayer(p *plan) {
	sibling := attachment.MAC(p.list.addr)
	p.add("ARP: gratuitous", "claims to be the gateway, the host and a sibling", func(c *kase) {
		for _, a := range []netip.Addr{gateway, p.up.addr, p.host.addr, p.list.addr} {
			for op := byte(1); op <= 2; op++ {
				c.forge(p.open, "claim of "+a.String(), func(f *frame, m []byte) {
					f.kind, f.dst = etherARP, everybody
					f.body = arp(op, attachment.MAC(p.open.addr), a, everybody, a, m)
				})
			}
		}
		c.honestly(p.open, nil)
	})
	p.add("ARP: scan", "requests for siblings and the host, by their MACs", func(c *kase) {
		for _, a := range []netip.Addr{p.list.addr, p.host.addr, p.hosts[len(p.hosts)-1]} {
			c.forge(p.open, "request for "+a.String(), func(f *frame, m []byte) {
				f.kind, f.dst = etherARP, sibling
				f.body = arp(1, attachment.MAC(p.open.addr), p.open.addr, make(net.HardwareAddr, 6), a, m)
			})
		}
		c.honestly(p.open, nil)
	})
	p.add("other MACs of the node", "frames to a sibling's, the host's and everybody's MAC", func(c *kase) {
		for _, mac := range []net.HardwareAddr{sibling, p.host.mac, p.up.mac, everybody} {
			c.forge(p.open, "to "+mac.String(), func(f *frame, _ []byte) { f.dst, f.to = mac, p.list.addr })
			c.forge(p.open, "to "+mac.String(), func(f *frame, m []byte) { f.dst, f.to, f.body = mac, p.host.addr, udp(4000, p.udp, m) })
		}
		c.honestly(p.open, nil)
	})
	odd := func(name, what string, change func(f *frame, m []byte)) {
		p.add(name, what, func(c *kase) {
			c.forge(p.open, name, change)
			c.honestly(p.open, nil)
		})
	}
	inner := func(m []byte) []byte { return p.honest(p.open, at(p.yes, 1), m).packet() }
	odd("VLAN tag", "a datagram with an 802.1Q tag", func(f *frame, m []byte) {
		f.kind, f.body = etherVLAN, append([]byte{0, 1, 8, 0}, inner(m)...)
	})
	odd("VLAN tag, double", "a datagram with two tags", func(f *frame, m []byte) {
		f.kind, f.body = etherQinQ, append([]byte{0, 1, 0x81, 0, 0, 2, 8, 0}, inner(m)...)
	})
	odd("spanning tree", "an 802.3 LLC frame to the bridges' group", func(f *frame, m []byte) {
		f.dst, f.kind, f.body = net.HardwareAddr{1, 0x80, 0xc2, 0, 0, 0}, uint16(7+len(m)), append([]byte{0x42, 0x42, 3, 0, 0, 0, 0}, m...)
	})
	odd("LLDP", "a frame of link-layer discovery", func(f *frame, m []byte) {
		f.dst, f.kind, f.body = net.HardwareAddr{1, 0x80, 0xc2, 0, 0, 0x0e}, 0x88cc, m
	})
	odd("frame in a frame", "a datagram with a second Ethernet header", func(f *frame, m []byte) {
		f.kind, f.body = 0x6558, p.honest(p.open, at(p.yes, 1), m).encode()
	})
	p.add("unknown Ethernet types", "PPPoE, MPLS, EAPOL, wake-on-LAN, experimental", func(c *kase) {
		for _, kind := range []uint16{0x8864, 0x8847, 0x888e, 0x0842, 0x88b5} {
			c.forge(p.open, "Ethernet type", func(f *frame, m []byte) { f.kind, f.body = kind, append([]byte{0x11, 0, 0, 1, 0, 64, 0, 0x21}, m...) })
		}
		c.honestly(p.open, nil)
	})
}

// versionSix: IPv6 that no sandbox may send, whether the node has it or not.
func versionSix(p *plan) {
	addr := netip.MustParseAddr
	local, other := addr("fe80::1:2"), addr("fe80::2")
	nodes, routers := addr("ff02::1"), addr("ff02::2")
	six := func(dst net.HardwareAddr, packet func(m []byte) []byte) func(*frame, []byte) {
		return func(f *frame, m []byte) {
			f.kind, f.body = etherIPv6, packet(m)
			if dst != nil {
				f.dst = dst
			}
		}
	}
	group := net.HardwareAddr{0x33, 0x33, 0, 0, 0, 1}
	one := func(name, what string, changes ...func(*frame, []byte)) {
		p.add(name, what, func(c *kase) {
			for _, change := range changes {
				c.forge(p.open, strings.ToLower(name), change)
			}
			c.honestly(p.open, nil)
		})
	}
	lifetime := [4]byte{64, 0, 7, 8}
	prefix := func(m []byte) []byte { return append(make([]byte, 8), m...) }
	one("IPv6: router advertisement", "a sandbox offers itself as router",
		six(group, func(m []byte) []byte { return icmp6(local, nodes, 134, lifetime, prefix(m)) }),
		six(nil, func(m []byte) []byte { return icmp6(local, other, 134, lifetime, prefix(m)) }))
	one("IPv6: neighbour discovery", "solicitations and unasked advertisements",
		six(group, func(m []byte) []byte { return icmp6(local, nodes, 136, [4]byte{0x60}, append(local.AsSlice(), m...)) }),
		six(nil, func(m []byte) []byte { return icmp6(local, other, 135, [4]byte{}, append(other.AsSlice(), m...)) }),
		six(group, func(m []byte) []byte { return icmp6(local, routers, 133, [4]byte{}, m) }),
		six(nil, func(m []byte) []byte { return icmp6(local, other, 137, [4]byte{}, append(make([]byte, 32), m...)) }))
	one("IPv6: link-local", "services of the host by link-local addresses",
		six(nil, func(m []byte) []byte { return udp6(local, addr("fe80::1"), m) }),
		six(group, func(m []byte) []byte { return udp6(local, nodes, m) }),
		six(p.host.mac, func(m []byte) []byte { return udp6(local, linkLocal(p.host.mac), m) }))
	one("IPv6: multicast", "mDNS and listener reports",
		six(group, func(m []byte) []byte { return udp6(local, addr("ff02::fb"), m) }),
		six(group, func(m []byte) []byte { return icmp6(local, addr("ff02::16"), 143, [4]byte{}, m) }))
	one("IPv6: mapped IPv4", "::ffff:0:0/96 as source and as destination",
		six(nil, func(m []byte) []byte { return udp6(addr("2001:db8::1"), mapped(p.host.addr), m) }),
		six(nil, func(m []byte) []byte { return udp6(mapped(p.open.addr), mapped(at(p.yes, 1)), m) }))
	one("IPv6: NAT64", "64:ff9b::/96 around a private and an outside address",
		six(nil, func(m []byte) []byte { return udp6(addr("2001:db8::1"), addr("64:ff9b::a00:1"), m) }),
		six(nil, func(m []byte) []byte { return udp6(addr("2001:db8::1"), addr("64:ff9b::cb00:7141"), m) }))
	one("IPv6: local and metadata", "fd00:ec2::254, unique local addresses, ::1",
		six(nil, func(m []byte) []byte { return udp6(addr("2001:db8::1"), addr("fd00:ec2::254"), m) }),
		six(nil, func(m []byte) []byte { return udp6(addr("2001:db8::1"), addr("fd12:3456::1"), m) }),
		six(nil, func(m []byte) []byte { return udp6(addr("2001:db8::1"), addr("::1"), m) }))
	one("IPv6: spoofed", "an outside address from one that the sandbox does not have",
		six(nil, func(m []byte) []byte { return udp6(addr("2001:db8::1"), addr("2001:db8::2"), m) }),
		six(nil, func(m []byte) []byte { return icmp6(addr("2001:db8::1"), addr("2001:db8::2"), 128, [4]byte{}, m) }))
	one("IPv6: extension headers", "hop-by-hop, routing and fragment headers",
		six(nil, func(m []byte) []byte { return extended(0, m) }),
		six(nil, func(m []byte) []byte { return extended(43, m) }),
		six(nil, func(m []byte) []byte { return extended(44, m) }),
		six(nil, func(m []byte) []byte { return extended(60, m) }))
}

func mapped(a netip.Addr) netip.Addr { return netip.AddrFrom16(a.As16()) }

// linkLocal is the address that a kernel makes of a MAC.
func linkLocal(mac net.HardwareAddr) netip.Addr {
	return netip.AddrFrom16([16]byte{0xfe, 0x80, 8: mac[0] ^ 2, 9: mac[1], 10: mac[2], 11: 0xff, 12: 0xfe, 13: mac[3], 14: mac[4], 15: mac[5]})
}

// extended is a datagram behind an extension header of eight bytes.
func extended(header byte, m []byte) []byte {
	from, to := netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2")
	body := over6(from, to, protoUDP, udp(4000, 9, m), 6)
	return ipv6(from, to, header, 64, append([]byte{protoUDP, 0, 0, 0, 0, 0, 0, 0}, body...))
}
