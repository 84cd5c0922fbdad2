package isolation

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"golang.org/x/sys/unix"

	"brig/internal/attachment"
)

// attack is one thing that a hostile sandbox puts on its link. Each frame carries the
// marker, by which a capture knows it.
type attack struct {
	name string
	// open and listed tell under which policy it is the sandbox's good right.
	open, listed bool
	frames       func(c cast, marker string) [][]byte
}

// cast are the sandboxes of an attack, and two servers of the internet that are nobody
// else's: protocols without ports have one flow for each pair of addresses.
type cast struct {
	self, sibling    *sandbox
	listed, unlisted netip.Addr
}

var broadcastMAC = net.HardwareAddr{255, 255, 255, 255, 255, 255}

// wide is a list that covers the private ranges without naming them, and neither
// 200.0.0.0/5 nor otherAddr.
var wide = allow("0.0.0.0/1", "128.0.0.0/2", "192.0.0.0/5", "203.0.113.0/25")

// hostile are the attacks that are one or two frames of IPv4.
func hostile() []attack {
	all := []attack{
		{"control", true, true, one(func(cast, *frame) {})},
		{"spoofed source: sibling", false, false, one(func(c cast, f *frame) { f.from = c.sibling.addr })},
		{"spoofed source and MAC: sibling", false, false, one(func(c cast, f *frame) { f.src, f.from = attachment.MAC(c.sibling.addr), c.sibling.addr })},
		{"spoofed MAC: sibling", false, false, one(func(c cast, f *frame) { f.src = attachment.MAC(c.sibling.addr) })},
		{"spoofed MAC: gateway", false, false, one(func(c cast, f *frame) { f.src = attachment.GatewayMAC })},
		{"spoofed MAC: broadcast", false, false, one(func(c cast, f *frame) { f.src = broadcastMAC })},
		{"to all by MAC, to a server by address", false, false, one(func(c cast, f *frame) { f.dst = broadcastMAC })},
		{"sibling directly, by its MAC", false, false, one(func(c cast, f *frame) { f.to, f.dst = c.sibling.addr, attachment.MAC(c.sibling.addr) })},
		{"sibling directly", false, false, one(func(c cast, f *frame) { f.to = c.sibling.addr })},
		{"sibling directly, TCP", false, false, one(func(c cast, f *frame) { f.to, f.proto, f.port = c.sibling.addr, unix.IPPROTO_TCP, 8080 })},
		{"to itself", false, false, one(func(c cast, f *frame) { f.to = c.self.addr })},
		{"source route by a server to the host", false, false, one(sourceRoute)},
		{"fragments to the host", false, false, fragmentsTo(hostAddr)},
		{"fragments to a metadata address", false, false, fragmentsTo(netip.MustParseAddr("169.254.169.254"))},
		{"fragments to a server", true, true, fragmentsTo(serverAddr)},
		{"gratuitous ARP: gateway", false, false, arpClaim(netip.MustParseAddr("169.254.1.1"))},
		{"gratuitous ARP: host", false, false, arpClaim(hostAddr)},
		{"gratuitous ARP: server", false, false, arpClaim(serverAddr)},
		{"gratuitous ARP: sibling", false, false, func(c cast, m string) [][]byte { return arpClaim(c.sibling.addr)(c, m) }},
	}
	for name, from := range map[string]string{
		"host": "203.0.113.1", "server": "203.0.113.2", "internet": "8.8.8.8", "gateway": "169.254.1.1", "host's link": "169.254.2.1", "transit's link": "169.254.2.2",
		"nobody": "0.0.0.0", "loopback": "127.0.0.1", "broadcast": "255.255.255.255", "multicast": "224.0.0.1", "pool's next": "10.88.0.77", "pool's broadcast": "10.88.255.255",
	} {
		all = append(all, attack{"spoofed source: " + name, false, false, one(func(c cast, f *frame) { f.from = netip.MustParseAddr(from) })})
	}
	for name, to := range map[string]string{
		"host": "203.0.113.1", "host's second address": "198.51.100.1", "host's link": "169.254.2.1", "host's bridge": "172.17.0.1", "cloud-mapped address of the node": "192.0.2.7",
		"transit's link": "169.254.2.2", "gateway": "169.254.1.1", "loopback": "127.0.0.1", "loopback 2": "127.8.8.8", "nobody": "0.0.0.0",
		"broadcast": "255.255.255.255", "uplink's broadcast": "203.0.113.255", "pool's broadcast": "10.88.255.255", "link's broadcast": "169.254.2.3", "bridge's broadcast": "172.17.255.255",
		"multicast": "224.0.0.1", "multicast DNS": "224.0.0.251", "multicast, site": "239.255.255.250", "reserved": "240.0.0.1",
		"metadata": "169.254.169.254", "metadata of tasks": "169.254.170.2", "metadata 100.100.100.200": "100.100.100.200", "metadata 168.63.129.16": "168.63.129.16", "metadata 192.0.0.192": "192.0.0.192",
		"private 10/8": "10.1.2.3", "private 172.16/12": "172.16.0.1", "private 192.168/16": "192.168.1.1", "shared 100.64/10": "100.64.0.1", "benchmarks 198.18/15": "198.18.0.1", "pool": "10.88.0.200",
	} {
		addr := netip.MustParseAddr(to)
		all = append(all,
			attack{"to " + name, false, false, one(func(c cast, f *frame) { f.to = addr })},
			attack{"TCP to " + name, false, false, one(func(c cast, f *frame) { f.to, f.proto, f.port = addr, unix.IPPROTO_TCP, 22 })},
		)
		if addr.IsMulticast() || addr.As4()[3] == 255 {
			all = append(all, attack{"to " + name + ", by MAC", false, false, one(func(c cast, f *frame) { f.to, f.dst = addr, groupMAC(addr) })})
		}
	}
	for name, proto := range map[string]byte{
		"ICMP": unix.IPPROTO_ICMP, "SCTP": unix.IPPROTO_SCTP, "GRE": unix.IPPROTO_GRE, "IPIP": unix.IPPROTO_IPIP, "6in4": unix.IPPROTO_IPV6, "ESP": unix.IPPROTO_ESP,
		"IGMP": unix.IPPROTO_IGMP, "DCCP": 33, "OSPF": 89, "VRRP": 112, "protocol 253": 253, "protocol 0": 0,
	} {
		for where, to := range map[string]func(cast) netip.Addr{
			"a listed address":              func(c cast) netip.Addr { return c.listed },
			"an address that is not listed": func(c cast) netip.Addr { return c.unlisted },
			"the sibling":                   func(c cast) netip.Addr { return c.sibling.addr },
			"the host":                      func(cast) netip.Addr { return hostAddr },
			"the link":                      func(cast) netip.Addr { return netip.MustParseAddr("169.254.2.1") },
		} {
			open, listed := strings.HasSuffix(where, "address") || strings.HasSuffix(where, "not listed"), where == "a listed address"
			all = append(all, attack{name + " to " + where, open, listed, one(func(c cast, f *frame) { f.to, f.proto, f.port = to(c), proto, 9 })})
		}
	}
	all = append(all, attack{"IGMP to all routers", false, false, one(func(c cast, f *frame) {
		f.to, f.proto, f.dst = netip.MustParseAddr("224.0.0.22"), unix.IPPROTO_IGMP, groupMAC(netip.MustParseAddr("224.0.0.22"))
	})})
	all = append(all, malformed()...)
	return append(all, foreignTypes()...)
}

// one is a datagram to a listed server, changed.
func one(change func(cast, *frame)) func(cast, string) [][]byte {
	return func(c cast, marker string) [][]byte {
		f := c.self.honest(serverAddr, marker)
		change(c, &f)
		return [][]byte{f.encode()}
	}
}

// groupMAC is where IPv4 sends to a group.
func groupMAC(a netip.Addr) net.HardwareAddr {
	if b := a.As4(); a.IsMulticast() {
		return net.HardwareAddr{1, 0, 0x5e, b[1] & 0x7f, b[2], b[3]}
	}
	return broadcastMAC
}

// fragmentsTo is a datagram in two parts, the marker in both.
func fragmentsTo(to netip.Addr) func(cast, string) [][]byte {
	return func(c cast, marker string) [][]byte {
		datagram := udp(c.self.addr, to, 9, marker+strings.Repeat(".", 8-len(marker)%8)+marker)
		first, tail := c.self.honest(to, ""), c.self.honest(to, "")
		cut := len(datagram) / 2 / 8 * 8
		first.id, first.fragment, first.transport = 77, 0x2000, datagram[:cut]
		tail.id, tail.fragment, tail.transport = 77, uint16(cut/8), datagram[cut:]
		return [][]byte{first.encode(), tail.encode()}
	}
}

// arpClaim says to all, twice, that an address is at this sandbox; the marker is padding.
func arpClaim(a netip.Addr) func(cast, string) [][]byte {
	return func(c cast, marker string) [][]byte {
		var frames [][]byte
		for _, operation := range []byte{1, 2} {
			f := c.self.honest(serverAddr, "")
			body := append([]byte{0, 1, 8, 0, 6, 4, 0, operation}, f.src...)
			body = append(append(append(append(body, a.AsSlice()...), broadcastMAC...), a.AsSlice()...), marker...)
			f.kind, f.dst, f.payload = 0x0806, broadcastMAC, string(body)
			frames = append(frames, f.encode())
		}
		return frames
	}
}

// sourceRoute asks a server to pass the datagram on.
func sourceRoute(c cast, f *frame) {
	f.options = append([]byte{131, 7, 4}, hostAddr.AsSlice()...)
	f.options = append(f.options, 0)
}

// malformed headers of datagrams to a server that is listed.
func malformed() []attack {
	change := func(name string, change func(ip []byte)) attack {
		return attack{"malformed: " + name, false, false, func(c cast, marker string) [][]byte {
			b := c.self.honest(serverAddr, marker).encode()
			change(b[14:])
			return [][]byte{b}
		}}
	}
	sum := func(ip []byte) {
		ip[10], ip[11] = 0, 0
		binary.BigEndian.PutUint16(ip[10:], checksum(ip[:20]))
	}
	return []attack{
		change("version 5", func(ip []byte) { ip[0] = 0x55; sum(ip) }),
		change("version 6 in a frame of IPv4", func(ip []byte) { ip[0] = 0x65; sum(ip) }),
		change("a header of 16 bytes", func(ip []byte) { ip[0] = 0x44; sum(ip) }),
		change("a header longer than the packet", func(ip []byte) { ip[0] = 0x4f; sum(ip) }),
		change("a length beyond the frame", func(ip []byte) { ip[2] = 5; sum(ip) }),
		change("a length of 19", func(ip []byte) { ip[2], ip[3] = 0, 19; sum(ip) }),
		change("a wrong checksum", func(ip []byte) { ip[10]++ }),
		change("a time to live of 0", func(ip []byte) { ip[8] = 0; sum(ip) }),
		change("a fragment beyond 64 KiB", func(ip []byte) { ip[6], ip[7] = 0x1f, 0xff; sum(ip) }),
	}
}

// foreignTypes are frames that are not IPv4.
func foreignTypes() []attack {
	var all []attack
	for name, kind := range map[string]uint16{
		"IPv6's type around IPv4": 0x86dd, "VLAN": 0x8100, "VLAN in VLAN": 0x88a8, "LLDP": 0x88cc, "802.1X": 0x888e, "PPPoE": 0x8864, "MPLS": 0x8847, "RARP": 0x8035,
		"spanning tree": 0x0026, "IPX": 0x8137, "MACsec": 0x88e5, "TIPC": 0x88ca, "an unknown type": 0xffff,
	} {
		for where, to := range map[string]net.HardwareAddr{"the gateway": attachment.GatewayMAC, "all": broadcastMAC, "bridges": {1, 0x80, 0xc2, 0, 0, 0}} {
			all = append(all, attack{fmt.Sprintf("frame of %s to %s", name, where), false, false, func(c cast, marker string) [][]byte {
				inner := c.self.honest(serverAddr, marker).encode()[14:]
				body := string(inner)
				if kind == 0x8100 || kind == 0x88a8 {
					body = "\x00\x01\x08\x00" + body
				}
				f := c.self.honest(serverAddr, "")
				f.kind, f.dst, f.payload = kind, to, body
				return [][]byte{f.encode()}
			}})
		}
	}
	return all
}
