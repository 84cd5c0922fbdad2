package isolation

import (
	"encoding/binary"
	"math/rand/v2"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"

	"brig/internal/attachment"
	"brig/internal/netpolicy"
)

// trial is one packet whose verdict is known.
type trial struct {
	src      net.HardwareAddr
	from, to netip.Addr
	proto    byte
	port     uint16
	forged   bool // not the sandbox's own identity
}

// encode appends the frame; its transport header is whole, its checksum absent or wrong:
// the rules do not look.
func (t trial) encode(b []byte) []byte {
	b = append(append(b, attachment.GatewayMAC...), t.src...)
	h := transportHeader(t.proto, t.port)
	if t.to.Is6() {
		b = append(b, 0x86, 0xdd, 0x60, 0, 0, 0)
		b = binary.BigEndian.AppendUint16(b, uint16(len(h)+trailer))
		b = append(b, t.proto, 64)
		return append(append(append(b, as16(t.from)...), t.to.AsSlice()...), h...)
	}
	b = append(b, 0x08, 0x00)
	start := len(b)
	b = append(b, 0x45, 0)
	b = binary.BigEndian.AppendUint16(b, uint16(20+len(h)+trailer))
	b = append(b, 0, 0, 0, 0, 64, t.proto, 0, 0)
	b = append(append(b, t.from.AsSlice()...), t.to.AsSlice()...)
	binary.BigEndian.PutUint16(b[start+10:], checksum(b[start:start+20]))
	return append(b, h...)
}

func as16(a netip.Addr) []byte { b := a.As16(); return b[:] }

// protocols that a sandbox may try; all others are a number without a header.
var protocols = []byte{
	unix.IPPROTO_TCP, unix.IPPROTO_TCP, unix.IPPROTO_UDP, unix.IPPROTO_UDP, unix.IPPROTO_ICMP,
	unix.IPPROTO_SCTP, unix.IPPROTO_GRE, unix.IPPROTO_IPIP, unix.IPPROTO_IPV6, unix.IPPROTO_ESP, 253,
}

// transportHeader is what the kernel's connection tracking takes for valid.
func transportHeader(proto byte, port uint16) []byte {
	to := []byte{0x0f, 0xa0, byte(port >> 8), byte(port)} // from port 4000
	switch proto {
	case unix.IPPROTO_TCP:
		return append(to, 0, 0, 0, 1, 0, 0, 0, 0, 5<<4, 2, 0xff, 0xff, 0, 0, 0, 0) // SYN
	case unix.IPPROTO_UDP:
		return append(to, 0, 8+trailer, 0, 0)
	case unix.IPPROTO_ICMP:
		return []byte{8, 0, 0, 0, to[2], to[3], 0, 1} // echo
	case unix.IPPROTO_SCTP:
		return append(to, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 4+trailer) // INIT
	case unix.IPPROTO_GRE:
		return []byte{0, 0, 8, 0}
	}
	return nil
}

// dice makes policies and packets, most of them at the edges of something.
type dice struct {
	*rand.Rand
	k *kernel
}

func newDice(k *kernel, seed uint64) dice { return dice{rand.New(rand.NewPCG(seed, 1)), k} }

// addr is any address.
func (d dice) addr() netip.Addr {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], d.Uint32())
	return netip.AddrFrom4(b)
}

// pick one of a slice.
func pick[T any](d dice, all []T) T { return all[d.IntN(len(all))] }

// near is an end of a range, or one beside it.
func (d dice) near(r netpolicy.Range) netip.Addr {
	all := []netip.Addr{r.From, r.To}
	if before := r.From.Prev(); before.IsValid() && before.Is4() {
		all = append(all, before)
	}
	if after := r.To.Next(); after.IsValid() && after.Is4() {
		all = append(all, after)
	}
	return pick(d, all)
}

// within is any address of a range.
func (d dice) within(r netpolicy.Range) netip.Addr {
	from, to := binary.BigEndian.Uint32(r.From.AsSlice()), binary.BigEndian.Uint32(r.To.AsSlice())
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], from+uint32(d.Uint64N(uint64(to-from)+1)))
	return netip.AddrFrom4(b)
}

func (d dice) nodeAddr() netip.Addr {
	return pick(d, []netip.Addr{hostAddr, netip.MustParseAddr("198.51.100.1"), netip.MustParseAddr("169.254.2.1"), netip.MustParseAddr("169.254.2.2")})
}

// edges of the address space, and what lies at them.
var edges = []netip.Addr{
	netip.IPv4Unspecified(), netip.MustParseAddr("255.255.255.255"), netip.MustParseAddr("223.255.255.255"), netip.MustParseAddr("1.0.0.0"),
	netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("169.254.1.1"), netip.MustParseAddr("169.254.169.254"), netip.MustParseAddr("224.0.0.1"),
	netip.MustParseAddr("8.8.8.255"), netip.MustParseAddr("8.8.8.0"), netip.MustParseAddr("128.0.0.0"), netip.MustParseAddr("127.255.255.255"),
}

// entry is a range for a list: anywhere, at an edge, beside or within the one before.
func (d dice) entry(before netip.Prefix) netip.Prefix {
	bits := 8 + d.IntN(25)
	at := d.addr()
	switch d.IntN(10) {
	case 0:
		at = d.near(pick(d, netpolicy.Never()))
	case 1:
		at = pick(d, edges)
	case 2:
		at, bits = d.nodeAddr(), 20+d.IntN(13)
	case 3:
		at = d.within(netpolicy.RangeOf(pick(d, d.k.private)))
	case 4, 5: // adjacent
		if before.IsValid() {
			if next := netpolicy.RangeOf(before).To.Next(); next.IsValid() {
				at, bits = next, min(32, before.Bits()+d.IntN(3))
			}
		}
	case 6: // overlapping
		if before.IsValid() {
			at, bits = before.Addr(), max(0, min(32, before.Bits()-4+d.IntN(9)))
		}
	case 7:
		b := at.As4()
		b[3] = 255
		at, bits = netip.AddrFrom4(b), 32
	}
	if d.IntN(200) == 0 {
		bits = d.IntN(4) // a huge one, at times the whole space
	}
	p, err := at.Prefix(bits)
	if err != nil {
		panic(err)
	}
	return p
}

// spec of a random policy: most are lists, most of those short, some of two thousand.
func (d dice) spec() netpolicy.Spec {
	switch d.IntN(25) {
	case 0:
		return netpolicy.Spec{}
	case 1:
		return netpolicy.Spec{BlockNetwork: true}
	}
	size := d.IntN(6)
	switch d.IntN(20) {
	case 0:
		size = 500 + d.IntN(1501)
	case 1, 2, 3:
		size = 100 + d.IntN(400)
	case 4, 5, 6, 7, 8, 9, 10:
		size = 6 + d.IntN(95)
	}
	list := []string{}
	var p netip.Prefix
	for len(list) < size {
		p = d.entry(p)
		one := []string{p.String()}
		if _, err := netpolicy.Compile(netpolicy.Spec{CIDRAllowlist: &one}, netpolicy.Ceiling{AllowPrivate: d.k.private}); err == nil {
			list = append(list, one[0])
		}
	}
	return netpolicy.Spec{CIDRAllowlist: &list}
}

// trial is a random packet against a policy.
func (d dice) trial(ranges []netpolicy.Range) trial {
	t := trial{src: mac(d.k.self.MAC), from: d.k.self.Addr, to: d.destination(ranges), proto: pick(d, protocols), port: pick(d, []uint16{0, 22, 53, 80, 443, 853, 8443, uint16(d.Uint32())})}
	if d.IntN(20) == 0 {
		t.proto = byte(d.IntN(256))
	}
	switch d.IntN(24) {
	case 0:
		t.from = d.addr()
	case 1:
		t.from = d.k.other.Addr
	case 2:
		t.src = mac(d.k.other.MAC)
	case 3:
		t.src, t.from = mac(d.k.other.MAC), d.k.other.Addr
	}
	t.forged = t.from != d.k.self.Addr || t.src.String() != d.k.self.MAC
	if d.IntN(24) == 0 {
		t.six(d)
	}
	return t
}

// six makes it an IPv6 packet.
func (t *trial) six(d dice) {
	t.from, t.to = netip.MustParseAddr("fe80::2"), netip.AddrFrom16(t.to.As16())
	t.to = pick(d, []netip.Addr{t.to, netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("64:ff9b::808:808"), netip.MustParseAddr("ff02::1"), netip.MustParseAddr("fd00:ec2::254")})
	if d.IntN(2) == 0 {
		t.from = netip.MustParseAddr("2001:db8:1::2")
	}
}

func (d dice) destination(ranges []netpolicy.Range) netip.Addr {
	n := d.IntN(100)
	switch {
	case n < 40 && len(ranges) > 0:
		return d.near(pick(d, ranges))
	case n < 60 && len(ranges) > 0:
		return d.within(pick(d, ranges))
	case n < 75:
		return d.near(pick(d, netpolicy.Never()))
	case n < 80:
		a := d.nodeAddr()
		return d.near(netpolicy.Range{From: a, To: a})
	case n < 85:
		return pick(d, edges)
	default:
		return d.addr()
	}
}
