package doctor

import (
	"net/netip"
	"testing"

	"golang.org/x/net/bpf"

	"brig/internal/attachment"
)

var (
	ownAddr   = netip.MustParseAddr("10.88.0.5")
	otherAddr = netip.MustParseAddr("10.88.0.9")
	docAddr   = netip.MustParseAddr("203.0.113.65")
)

func testFrame(from, to netip.Addr, payload []byte) frame {
	return frame{
		dst: attachment.GatewayMAC, src: attachment.MAC(ownAddr), kind: etherIPv4,
		from: from, to: to, proto: protoUDP, ttl: 64, body: udp(4000, 9, payload),
	}
}

func TestJudgeKnowsMarkersByPlace(t *testing.T) {
	j := newJudge()
	a, first := j.marker()
	b, second := j.marker()
	j.frame("here", testFrame(ownAddr, docAddr, append(append(first, " and "...), second...)).encode())
	j.data("there", second)
	foreign := newJudge()
	c, alien := foreign.marker()
	j.data("here", alien)
	j.data("here", append(append([]byte{}, j.prefix...), "ffff"...)) // never made
	j.data("here", append([]byte{}, j.prefix...))                    // cut off
	for _, tc := range []struct {
		n      int
		places []string
		want   string
	}{
		{a, []string{"there", "here"}, "here"}, {a, []string{"there"}, ""}, {b, []string{"there", "here"}, "there"}, {0xffff, []string{"here"}, ""},
	} {
		if got := j.saw(tc.n, tc.places); got != tc.want {
			t.Errorf("marker %d at %v: %q, want %q", tc.n, tc.places, got, tc.want)
		}
	}
	if c != a {
		t.Errorf("the other judge's first marker is %d", c)
	}
	if len(j.seen) != 2 {
		t.Errorf("remembers %v", j.seen)
	}
}

func TestJudgeKnowsConnectionsByTheirEnds(t *testing.T) {
	j := newJudge()
	a, _ := j.marker()
	b, _ := j.marker()
	to := netip.AddrPortFrom(docAddr, 80)
	j.watch(a, dialled{protoTCP, ownAddr, to})
	j.watch(b, dialled{protoTCP, ownAddr, to})
	f := testFrame(ownAddr, docAddr, nil)
	f.proto, f.body = protoTCP, segment{from: 4000, to: 80, flags: flagSYN}.encode(ownAddr, docAddr)
	other := f
	other.from = otherAddr
	j.frame("elsewhere", other.encode())
	f.fragment = 1
	j.frame("elsewhere", f.encode()) // no header in it
	f.fragment = 0
	refused := f
	refused.body = segment{from: 4000, to: 80, flags: flagRST | flagACK}.encode(ownAddr, docAddr)
	j.frame("elsewhere", refused.encode())
	for cut := range f.encode() {
		j.frame("elsewhere", f.encode()[:min(cut, 47)]) // none may panic
	}
	j.frame("here", f.encode())
	for _, n := range []int{a, b} {
		if got := j.saw(n, []string{"elsewhere", "here"}); got != "here" {
			t.Errorf("connection %d was seen at %q", n, got)
		}
	}
}

// TestFilters run the kernel's programs over what they must and must not let pass.
func TestFilters(t *testing.T) {
	public, lan := netip.MustParseAddr("8.8.8.8"), netip.MustParseAddr("192.168.1.4")
	six := func(from, to string) []byte {
		f := testFrame(ownAddr, docAddr, nil)
		f.kind, f.body = etherIPv6, udp6(netip.MustParseAddr(from), netip.MustParseAddr(to), []byte("x"))
		return f.encode()
	}
	odd := testFrame(ownAddr, docAddr, []byte("padding enough for an IP header or more"))
	odd.kind = 0x88cc
	for _, tc := range []struct {
		what          string
		frame         []byte
		ours, leaving bool
	}{
		{"own source", testFrame(ownAddr, public, nil).encode(), true, false},
		{"own destination", testFrame(public, ownAddr, nil).encode(), true, false},
		{"documentation", testFrame(lan, docAddr, nil).encode(), true, true},
		{"documentation, another range", testFrame(lan, netip.MustParseAddr("192.0.2.255"), nil).encode(), true, true},
		{"from documentation", testFrame(docAddr, lan, nil).encode(), true, false},
		{"beside documentation", testFrame(lan, netip.MustParseAddr("203.0.114.1"), nil).encode(), false, false},
		{"a user's", testFrame(otherAddr, public, nil).encode(), false, false},
		{"a user's, back", testFrame(public, otherAddr, nil).encode(), false, false},
		{"a user's IPv6", six("fd00::5", "2606:4700::1"), false, false},
		{"IPv6 documentation", six("fd00::5", "2001:db8::1"), true, false},
		{"from IPv6 documentation", six("2001:db8::1", "2606:4700::1"), true, false},
		{"IPv6 link-local", six("fe80::1", "fe80::2"), true, false},
		{"IPv6 multicast", six("fe80::1", "ff02::1"), true, false},
		{"IPv6 NAT64", six("fd00::5", "64:ff9b::a00:1"), true, false},
		{"IPv6 local", six("fd00::5", "fd00:ec2::254"), true, false},
		{"LLDP", odd.encode(), true, false},
	} {
		for name, filter := range map[string]struct {
			program []bpf.Instruction
			want    bool
		}{
			"ours": {ours([]netip.Addr{ownAddr}), tc.ours}, "leaving": {leaving(), tc.leaving}, "everything": {everything(), true},
		} {
			vm, err := bpf.NewVM(filter.program)
			if err != nil {
				t.Fatal(err)
			}
			n, err := vm.Run(tc.frame)
			if err != nil || (n > 0) != filter.want {
				t.Errorf("%s by %s: %d, %v; want %t", tc.what, name, n, err, filter.want)
			}
		}
	}
}
