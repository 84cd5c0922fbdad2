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
	forged   bool // not an identity of the sandbox
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
		return append(append(append(b, t.from.AsSlice()...), t.to.AsSlice()...), h...)
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
	case unix.IPPROTO_ICMPV6:
		return []byte{128, 0, 0, 0, to[2], to[3], 0, 1} // echo
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

// pick one of a slice.
func pick[T any](d dice, all []T) T { return all[d.IntN(len(all))] }

// anywhere is any address of a family.
func (d dice) anywhere(six bool) netip.Addr {
	b := binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, d.Uint64()), d.Uint64())
	if six {
		b[0] = b[0]&0x1f | 0x20 // most of what is not public is far from anything
		return netip.AddrFrom16([16]byte(b))
	}
	return netip.AddrFrom4([4]byte(b))
}

// near is an end of a range, or one beside it.
func (d dice) near(r netpolicy.Range) netip.Addr {
	all := []netip.Addr{r.From, r.To}
	for _, beside := range []netip.Addr{r.From.Prev(), r.To.Next()} {
		if beside.IsValid() {
			all = append(all, beside)
		}
	}
	return pick(d, all)
}

// within is an address between a range's ends.
func (d dice) within(r netpolicy.Range) netip.Addr {
	from, to := r.From.AsSlice(), r.To.AsSlice()
	for i := range from {
		if from[i] == to[i] {
			continue
		}
		// This byte may be any between the two; what follows is random between its two ends.
		at := from[i] + byte(d.IntN(int(to[i]-from[i])+1))
		if at > from[i] && at < to[i] {
			for j := i + 1; j < len(from); j++ {
				from[j] = byte(d.Uint32())
			}
		}
		if at == to[i] && at != from[i] {
			return r.To
		}
		from[i] = at
		break
	}
	a, _ := netip.AddrFromSlice(from)
	return a
}

// some is one of those of the ranges that are of a family.
func (d dice) some(ranges []netpolicy.Range, six bool) (r netpolicy.Range, ok bool) {
	v4, v6 := netpolicy.Split(ranges)
	if six {
		v4 = v6
	}
	if len(v4) == 0 {
		return netpolicy.Range{}, false
	}
	return pick(d, v4), true
}

// edge of one of those ranges.
func (d dice) edge(ranges []netpolicy.Range, six bool) netip.Addr {
	r, ok := d.some(ranges, six)
	if !ok {
		return d.anywhere(six)
	}
	return d.near(r)
}

func addrs(texts ...string) (all []netip.Addr) {
	for _, s := range texts {
		all = append(all, netip.MustParseAddr(s))
	}
	return all
}

// edges of each family's address space, and what lies at them.
var edges = map[bool][]netip.Addr{
	false: addrs("0.0.0.0", "255.255.255.255", "223.255.255.255", "1.0.0.0", "127.0.0.1", "169.254.1.1", "169.254.169.254", "224.0.0.1", "8.8.8.255", "8.8.8.0", "128.0.0.0", "127.255.255.255"),
	true: addrs("::", "::1", "::ffff:8.8.8.8", "64:ff9b::808:808", "1fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "2000::", "3fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "4000::",
		"2001::1", "2002:808:808::1", "fd00:ec2::254", "fe80::1", "fec0::1", "ff02::1", "ff05::2", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
}

// entry is a range for a list: anywhere, at an edge, beside or within the one before.
func (d dice) entry(before netip.Prefix) netip.Prefix {
	six := d.IntN(2) == 0
	size := 32
	if six {
		size = 128
	}
	bits := size/4 + d.IntN(size-size/4+1)
	at := d.anywhere(six)
	switch what := d.IntN(10); {
	case what == 0:
		at = d.edge(netpolicy.Never(), six)
	case what == 1:
		at = pick(d, edges[six])
	case what == 2:
		at, bits = d.nodeAddr(six), size-d.IntN(13)
	case what == 3:
		if p := netpolicy.RangeOf(pick(d, d.k.base.Private)); p.From.Is6() == six {
			at = d.within(p)
		}
	case what <= 5 && before.IsValid() && before.Addr().Is6() == six: // adjacent
		if next := netpolicy.RangeOf(before).To.Next(); next.IsValid() {
			at, bits = next, min(size, before.Bits()+d.IntN(3))
		}
	case what == 6 && before.IsValid() && before.Addr().Is6() == six: // overlapping
		at, bits = before.Addr(), max(0, min(size, before.Bits()-4+d.IntN(9)))
	case what == 7:
		b := at.AsSlice()
		b[len(b)-1] = 255
		at, _ = netip.AddrFromSlice(b)
		bits = size
	}
	if d.IntN(200) == 0 {
		bits = d.IntN(4) // a huge one, at times the whole space
	}
	return netip.PrefixFrom(at.Unmap(), min(bits, at.Unmap().BitLen())).Masked()
}

func (d dice) nodeAddr(six bool) netip.Addr {
	var all []netip.Addr
	for _, a := range d.k.base.Node {
		if a.Is6() == six {
			all = append(all, a)
		}
	}
	return pick(d, all)
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
		if _, err := netpolicy.Compile(netpolicy.Spec{CIDRAllowlist: &one}, d.k.ceiling()); err == nil {
			list = append(list, one[0])
		}
	}
	spec := netpolicy.Spec{CIDRAllowlist: &list}
	switch d.IntN(10) {
	case 0: // what no name was resolved to is not reached by it
		spec.DomainAllowlist = &[]string{"example.com", "*.example.org:8443"}
	case 1:
		spec.DNS = "resolver"
	}
	return spec
}

// trial is a random packet against a policy.
func (d dice) trial(ranges []netpolicy.Range) trial {
	six := d.IntN(2) == 0
	self, other := d.k.self, d.k.other
	own, others := self.Addr, other.Addr
	if six {
		own, others = self.Addr6, other.Addr6
	}
	t := trial{src: mac(self.MAC), from: own, to: d.destination(ranges, six), proto: pick(d, protocols), port: pick(d, []uint16{0, 22, 53, 80, 443, 853, 8443, uint16(d.Uint32())})}
	if d.IntN(20) == 0 {
		t.proto = byte(d.IntN(256))
	}
	if six {
		t.header6(d)
	}
	switch d.IntN(24) {
	case 0:
		t.from = d.anywhere(six)
	case 1:
		t.from = others
	case 2:
		t.src = mac(other.MAC)
	case 3:
		t.src, t.from = mac(other.MAC), others
	}
	t.forged = t.from != own || t.src.String() != self.MAC
	return t
}

// header6 keeps to what is not an extension header, which IPv6 sandboxes may not send at
// all, and to pings among ICMP.
func (t *trial) header6(d dice) {
	switch t.proto {
	case 0, 43, 44, 51, 60, 135, 139, 140, 253, 254, unix.IPPROTO_ICMP:
		t.proto = unix.IPPROTO_UDP
	}
}

func (d dice) destination(ranges []netpolicy.Range, six bool) netip.Addr {
	n := d.IntN(100)
	r, listed := d.some(ranges, six)
	switch {
	case n < 40 && listed:
		return d.near(r)
	case n < 60 && listed:
		return d.within(r)
	case n < 75:
		return d.edge(netpolicy.Never(), six)
	case n < 80:
		a := d.nodeAddr(six)
		return d.near(netpolicy.Range{From: a, To: a})
	case n < 85:
		return pick(d, edges[six])
	default:
		return d.anywhere(six)
	}
}
