package doctor

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"net"
	"net/netip"
)

// Ethernet types and IP protocols of the frames below.
const (
	etherIPv4 = 0x0800
	etherARP  = 0x0806
	etherVLAN = 0x8100
	etherQinQ = 0x88a8
	etherIPv6 = 0x86dd

	protoICMP   = 1
	protoIGMP   = 2
	protoIPIP   = 4
	protoTCP    = 6
	protoUDP    = 17
	proto6in4   = 41
	protoGRE    = 47
	protoESP    = 50
	protoICMPv6 = 58
	protoSCTP   = 132
	protoUDPL   = 136
)

// frame is an Ethernet frame around an IPv4 packet, or around anything if kind says so.
type frame struct {
	dst, src net.HardwareAddr
	kind     uint16 // Ethernet type; below 1536 a length
	from, to netip.Addr
	proto    byte
	ttl      byte
	id       uint16
	fragment uint16 // flags and offset in units of 8 bytes
	options  []byte // of IPv4, padded to 4
	body     []byte // what follows the IPv4 header, or the Ethernet type
}

// encode with right lengths and checksums of the IPv4 header.
func (f frame) encode() []byte {
	b := append(append(bytes.Clone(f.dst), f.src...), byte(f.kind>>8), byte(f.kind))
	if f.kind != etherIPv4 {
		return append(b, f.body...)
	}
	return append(b, f.packet()...)
}

// packet is the IPv4 packet alone.
func (f frame) packet() []byte {
	size := 20 + len(f.options)
	h := make([]byte, size, size+len(f.body))
	h[0], h[8], h[9] = 0x40|byte(size/4), f.ttl, f.proto
	binary.BigEndian.PutUint16(h[2:], uint16(size+len(f.body)))
	binary.BigEndian.PutUint16(h[4:], f.id)
	binary.BigEndian.PutUint16(h[6:], f.fragment)
	copy(h[12:16], f.from.AsSlice())
	copy(h[16:20], f.to.AsSlice())
	copy(h[20:], f.options)
	binary.BigEndian.PutUint16(h[10:], checksum(h))
	return append(h, f.body...)
}

// checksum of the internet, over an even or odd number of bytes.
func checksum(parts ...[]byte) uint16 {
	var sum uint32
	for _, b := range parts {
		for i := 0; i+1 < len(b); i += 2 {
			sum += uint32(binary.BigEndian.Uint16(b[i:]))
		}
		if len(b)%2 == 1 {
			sum += uint32(b[len(b)-1]) << 8
		}
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

// udp without a checksum, which IPv4 permits.
func udp(from, to uint16, payload []byte) []byte {
	h := make([]byte, 8, 8+len(payload))
	binary.BigEndian.PutUint16(h, from)
	binary.BigEndian.PutUint16(h[2:], to)
	binary.BigEndian.PutUint16(h[4:], uint16(8+len(payload)))
	return append(h, payload...)
}

// Flags of TCP.
const (
	flagFIN = 1 << iota
	flagSYN
	flagRST
	flagPSH
	flagACK
)

// segment of TCP.
type segment struct {
	from, to uint16
	seq, ack uint32
	flags    byte
	payload  []byte
}

// encode with the checksum for these addresses.
func (s segment) encode(from, to netip.Addr) []byte {
	b := make([]byte, 20, 20+len(s.payload))
	binary.BigEndian.PutUint16(b, s.from)
	binary.BigEndian.PutUint16(b[2:], s.to)
	binary.BigEndian.PutUint32(b[4:], s.seq)
	binary.BigEndian.PutUint32(b[8:], s.ack)
	b[12], b[13] = 5<<4, s.flags
	binary.BigEndian.PutUint16(b[14:], 0xffff)
	b = append(b, s.payload...)
	pseudo := append(append(bytes.Clone(from.AsSlice()), to.AsSlice()...), 0, protoTCP, byte(len(b)>>8), byte(len(b)))
	binary.BigEndian.PutUint16(b[16:], checksum(pseudo, b))
	return b
}

// icmp message with its checksum; rest are the four bytes after it.
func icmp(kind, code byte, rest [4]byte, payload []byte) []byte {
	b := append([]byte{kind, code, 0, 0, rest[0], rest[1], rest[2], rest[3]}, payload...)
	binary.BigEndian.PutUint16(b[2:], checksum(b))
	return b
}

// igmp is a report of membership in a group.
func igmp(group netip.Addr, payload []byte) []byte {
	g := group.As4()
	return icmp(0x16, 0, g, payload)
}

// sctp is an INIT with a parameter around the payload.
func sctp(payload []byte) []byte {
	for len(payload)%4 != 0 {
		payload = append(bytes.Clone(payload), 0)
	}
	b := make([]byte, 12, 64)
	binary.BigEndian.PutUint16(b, 4000)
	binary.BigEndian.PutUint16(b[2:], 9)
	b = append(b, 1, 0, 0, byte(24+len(payload)))
	b = append(b, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1)
	b = append(b, 0x80, 8, 0, byte(4+len(payload)))
	b = append(b, payload...)
	binary.LittleEndian.PutUint32(b[8:], crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
	return b
}

// gre around an IPv4 packet.
func gre(inner []byte) []byte { return append([]byte{0, 0, 0x08, 0x00}, inner...) }

// ipv6 packet; proto is of what follows, extension headers included in body.
func ipv6(from, to netip.Addr, proto, hops byte, body []byte) []byte {
	h := make([]byte, 40, 40+len(body))
	h[0], h[6], h[7] = 0x60, proto, hops
	binary.BigEndian.PutUint16(h[4:], uint16(len(body)))
	f, t := from.As16(), to.As16()
	copy(h[8:], f[:])
	copy(h[24:], t[:])
	return append(h, body...)
}

// over6 sets the checksum, which stands at offset in body and which IPv6 demands.
func over6(from, to netip.Addr, proto byte, body []byte, offset int) []byte {
	f, t := from.As16(), to.As16()
	pseudo := append(append(bytes.Clone(f[:]), t[:]...), 0, 0, byte(len(body)>>8), byte(len(body)), 0, 0, 0, proto)
	binary.BigEndian.PutUint16(body[offset:], checksum(pseudo, body))
	return body
}

// udp6 is a UDP datagram in an IPv6 packet.
func udp6(from, to netip.Addr, payload []byte) []byte {
	return ipv6(from, to, protoUDP, 64, over6(from, to, protoUDP, udp(4000, 9, payload), 6))
}

// icmp6 is a message of ICMPv6, with the hop limit that neighbour discovery demands.
func icmp6(from, to netip.Addr, kind byte, rest [4]byte, payload []byte) []byte {
	b := append([]byte{kind, 0, 0, 0, rest[0], rest[1], rest[2], rest[3]}, payload...)
	return ipv6(from, to, protoICMPv6, 255, over6(from, to, protoICMPv6, b, 2))
}

// arp packet for IPv4 over Ethernet, with trailing bytes as padding.
func arp(op byte, srcMAC net.HardwareAddr, src netip.Addr, dstMAC net.HardwareAddr, dst netip.Addr, padding []byte) []byte {
	b := []byte{0, 1, 8, 0, 6, 4, 0, op}
	b = append(append(b, srcMAC...), src.AsSlice()...)
	b = append(append(b, dstMAC...), dst.AsSlice()...)
	return append(b, padding...)
}
