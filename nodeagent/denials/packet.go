package denials

import (
	"encoding/binary"
	"fmt"
	"net/netip"
)

// The protocols that are looked into.
const (
	protocolTCP  = 6
	protocolUDP  = 17
	protocolSCTP = 132
)

// protocols by their usual names.
var protocols = map[uint8]string{
	1: "icmp", 2: "igmp", 4: "ipip", protocolTCP: "tcp", protocolUDP: "udp", 41: "ipv6", 47: "gre",
	50: "esp", 51: "ah", 58: "icmpv6", protocolSCTP: "sctp", 136: "udplite",
}

// ProtocolName is "tcp", or "ip-99" for what has no name here; empty if not known.
func (f Flow) ProtocolName() string {
	if f.Protocol == 0 {
		return "" // of IPv6 that is options which were not passed over
	}
	if name, ok := protocols[f.Protocol]; ok {
		return name
	}
	return fmt.Sprintf("ip-%d", f.Protocol)
}

// decode reads as much as there is of a packet that begins with its IP header: what is
// cut off, or does not make sense, is left out.
func decode(packet []byte) Flow {
	if len(packet) == 0 {
		return Flow{}
	}
	switch packet[0] >> 4 {
	case 4:
		return decode4(packet)
	case 6:
		return decode6(packet)
	}
	return Flow{}
}

func decode4(p []byte) Flow {
	const least = 20
	if len(p) < least {
		return Flow{}
	}
	f := Flow{Protocol: p[9], Src: netip.AddrFrom4([4]byte(p[12:16])), Dst: netip.AddrFrom4([4]byte(p[16:20]))}
	header := int(p[0]&0x0f) * 4
	fragment := binary.BigEndian.Uint16(p[6:8]) & 0x1fff
	if header < least || header > len(p) || fragment != 0 {
		return f
	}
	f.SrcPort, f.DstPort = ports(f.Protocol, p[header:])
	return f
}

// maxExtensions of IPv6 are passed over.
const maxExtensions = 8

func decode6(p []byte) Flow {
	const header = 40
	if len(p) < header {
		return Flow{}
	}
	f := Flow{Protocol: p[6], Src: netip.AddrFrom16([16]byte(p[8:24])), Dst: netip.AddrFrom16([16]byte(p[24:40]))}
	rest := p[header:]
	for range maxExtensions {
		size, ok := extension(f.Protocol, rest)
		if !ok {
			break
		}
		f.Protocol = rest[0]
		if size == 0 { // a fragment other than the first
			return f
		}
		rest = rest[size:]
	}
	f.SrcPort, f.DstPort = ports(f.Protocol, rest)
	return f
}

// extension returns the size of an IPv6 extension header that lies in b as a whole;
// 0 if what follows it is not a protocol's header.
func extension(protocol uint8, b []byte) (size int, ok bool) {
	const hopByHop, routing, fragment, destination = 0, 43, 44, 60
	switch protocol {
	case hopByHop, routing, destination:
		if len(b) < 8 || len(b) < int(b[1])*8+8 {
			return 0, false
		}
		return int(b[1])*8 + 8, true
	case fragment:
		if len(b) < 8 {
			return 0, false
		}
		if binary.BigEndian.Uint16(b[2:4])&^7 != 0 {
			return 0, true
		}
		return 8, true
	}
	return 0, false
}

func ports(protocol uint8, b []byte) (src, dst uint16) {
	switch protocol {
	case protocolTCP, protocolUDP, protocolSCTP:
		if len(b) >= 4 {
			return binary.BigEndian.Uint16(b[0:2]), binary.BigEndian.Uint16(b[2:4])
		}
	}
	return 0, 0
}
