package isolation

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

// TestNothingLeavesUnderAPrivateAddress: what connection tracking cannot follow is not
// translated, so it must not leave: on a network that has the pool's range elsewhere it
// would be a forged source.
func TestNothingLeavesUnderAPrivateAddress(t *testing.T) {
	w := newWorld(t, "")
	w.privateSources(untranslatable, serverAddr, "8.8.4.0", "10.0.0.0/8")
}

// TestNothingLeavesUnderAPrivateAddress6: the same by IPv6, whose pool is private, too.
func TestNothingLeavesUnderAPrivateAddress6(t *testing.T) {
	w := newWorld(t, "")
	w.wire6()
	w.has6(w.sandbox("has6"))
	w.privateSources(untranslatable6, serverAddr6, "2a00::", "fc00::/7")
}

// privateSources sends each to an address of its own, from first on.
func (w *world) privateSources(cases []untranslated, server netip.Addr, first, private string) {
	s := w.sandbox("s1")
	w.must(s.start(nil))
	wire := w.capture(w.internet, "eth0")
	to := netip.MustParseAddr(first)
	for i, c := range cases {
		to = to.Next()
		w.t.Run(c.name, func(t *testing.T) {
			w := w.in(t)
			if c.foreign {
				w.nft(w.host, "table inet foreign { chain first { type filter hook prerouting priority -301; iifname "+w.cfg.HostLink()+" notrack; }; }")
			}
			f := s.honest(to, marker("private", i))
			c.change(&f)
			w.inject(s.ns, "eth0", f.encode())
			if c.foreign {
				w.nft(w.host, "delete table inet foreign")
			}
			w.inject(s.ns, "eth0", s.honest(server, control("private", i)).encode())
			if !wire.await(control("private", i)) {
				t.Fatal("an honest packet did not arrive, so nothing is proven")
			}
			for _, f := range wire.from(netip.MustParsePrefix(private)) {
				if _, at := ends(f); at == to {
					t.Errorf("left with the sandbox's own address as its source: %x", f)
				}
			}
		})
	}
}

// untranslatable packets, each to an address that the policy admits.
var untranslatable = []untranslated{
	{"honest, with notrack in the host", true, func(*frame) {}},
	{"UDP, wrong checksum", false, broken(unix.IPPROTO_UDP, 6)},
	{"UDP, wrong length", false, broken(unix.IPPROTO_UDP, 4)},
	{"ICMP, wrong checksum", false, broken(unix.IPPROTO_ICMP, 2)},
	{"ICMP, reply to nobody", false, icmp(0)},
	{"ICMP, unknown type", false, icmp(200)},
	{"SCTP, wrong checksum", false, broken(unix.IPPROTO_SCTP, 8)},
	{"UDP-Lite without a header", false, func(f *frame) { f.proto = 136 }},
	{"TCP, wrong checksum", false, broken(unix.IPPROTO_TCP, 16)},
	{"TCP, reset of no connection", false, tcpFlags(4)},
	{"TCP, FIN of no connection", false, tcpFlags(1)},
	{"TCP, SYN and FIN", false, tcpFlags(3)},
	{"TCP, all flags", false, tcpFlags(0xff)},
	{"TCP, no flags", false, tcpFlags(0)},
}

var untranslatable6 = []untranslated{
	{"honest, with notrack in the host", true, func(*frame) {}},
	{"UDP, wrong checksum", false, broken(unix.IPPROTO_UDP, 6)},
	{"UDP, no checksum", false, func(f *frame) { f.transport = f.body(); f.transport[6], f.transport[7] = 0, 0 }},
	{"ICMPv6, wrong checksum", false, broken(unix.IPPROTO_ICMPV6, 2)},
	{"SCTP, wrong checksum", false, broken(unix.IPPROTO_SCTP, 8)},
	{"UDP-Lite without a header", false, func(f *frame) { f.proto = 136 }},
	{"TCP, wrong checksum", false, broken(unix.IPPROTO_TCP, 16)},
	{"TCP, reset of no connection", false, tcpFlags(4)},
	{"TCP, all flags", false, tcpFlags(0xff)},
}

// untranslated is a packet that connection tracking does not take for a connection's.
type untranslated struct {
	name    string
	foreign bool // the host has a rule of somebody's that takes all from connection tracking
	change  func(*frame)
}

// broken is a packet of a protocol with a wrong byte.
func broken(proto byte, at int) func(*frame) {
	return func(f *frame) { f.proto = proto; f.transport = f.body(); f.transport[at] ^= 0x55 }
}

func icmp(kind byte) func(*frame) {
	return func(f *frame) {
		f.proto = unix.IPPROTO_ICMP
		f.transport = f.body()
		f.transport[0], f.transport[2], f.transport[3] = kind, 0, 0
		binary.BigEndian.PutUint16(f.transport[2:], checksum(f.transport))
	}
}

func tcpFlags(flags byte) func(*frame) {
	return func(f *frame) {
		f.proto = unix.IPPROTO_TCP
		f.transport = f.body()
		f.transport[13], f.transport[16], f.transport[17] = flags, 0, 0
		binary.BigEndian.PutUint16(f.transport[16:], checksum(append(pseudo(f.from, f.to, f.proto, len(f.transport)), f.transport...)))
	}
}
