package denials

import (
	"encoding/hex"
	"fmt"
	"strings"
	"testing"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// packets by what they are, and what is read of each.
var packets = []struct{ name, hex, want string }{
	{"tcp", "4500003c 00004000 40060000 0a580002 cb007109 9c4001bb 00000000", "tcp 10.88.0.2:40000 203.0.113.9:443"},
	{"udp with options", "46000020 00000000 40110000 0a580002 cb007109 01010101 003500 35", "udp 10.88.0.2:53 203.0.113.9:53"},
	{"icmp", "4500001c 00000000 40010000 0a580002 cb007109 0800f7ff 00000000", "icmp 10.88.0.2:0 203.0.113.9:0"},
	{"a later fragment", "45000028 0000000a 40110000 0a580002 cb007109 11111111", "udp 10.88.0.2:0 203.0.113.9:0"},
	{"cut off in the ports", "4500003c 00000000 40060000 0a580002 cb007109 9c40", "tcp 10.88.0.2:0 203.0.113.9:0"},
	{"a header longer than the packet", "4f00003c 00000000 40060000 0a580002 cb007109 9c4001bb", "tcp 10.88.0.2:0 203.0.113.9:0"},
	{"a header shorter than any", "4100003c 00000000 40060000 0a580002 cb007109 9c4001bb", "tcp 10.88.0.2:0 203.0.113.9:0"},
	{"gre", "45000018 00000000 402f0000 0a580002 cb007109 00000800", "gre 10.88.0.2:0 203.0.113.9:0"},
	{"an unknown protocol", "45000018 00000000 40fd0000 0a580002 cb007109 00000800", "ip-253 10.88.0.2:0 203.0.113.9:0"},
	{"tcp over IPv6", "60000000 00140640 fd000000000000000000000000000002 20010db8000000000000000000000009 9c4001bb", "tcp [fd00::2]:40000 [2001:db8::9]:443"},
	{"udp behind options", "60000000 00100040 fd000000000000000000000000000002 20010db8000000000000000000000009 1100000000000000 00350035", "udp [fd00::2]:53 [2001:db8::9]:53"},
	{"a first fragment", "60000000 00102c40 fd000000000000000000000000000002 20010db8000000000000000000000009 0600000100000001 9c4001bb", "tcp [fd00::2]:40000 [2001:db8::9]:443"},
	{"a later fragment of IPv6", "60000000 00102c40 fd000000000000000000000000000002 20010db8000000000000000000000009 0600000900000001 9c4001bb", "tcp [fd00::2]:0 [2001:db8::9]:0"},
	{"options that are cut off", "60000000 00100040 fd000000000000000000000000000002 20010db8000000000000000000000009 11ff000000000000", " [fd00::2]:0 [2001:db8::9]:0"},
	{"endless options", "60000000 00100040 fd000000000000000000000000000002 20010db8000000000000000000000009" + strings.Repeat("0000000000000000", 12), " [fd00::2]:0 [2001:db8::9]:0"},
	{"half a header of IPv6", "60000000 00140640 fd00", " invalid AddrPort invalid AddrPort"},
	{"half a header", "4500003c 0000", " invalid AddrPort invalid AddrPort"},
	{"another version", "7500003c 00004000 40060000 0a580002 cb007109 9c4001bb", " invalid AddrPort invalid AddrPort"},
	{"nothing", "", " invalid AddrPort invalid AddrPort"},
}

func text(f Flow) string {
	at := func(a fmt.Stringer, valid bool, port uint16, six bool) string {
		switch {
		case !valid:
			return "invalid AddrPort"
		case six:
			return fmt.Sprintf("[%s]:%d", a, port)
		}
		return fmt.Sprintf("%s:%d", a, port)
	}
	return fmt.Sprintf("%s %s %s", f.ProtocolName(), at(f.Src, f.Src.IsValid(), f.SrcPort, f.Src.Is6()), at(f.Dst, f.Dst.IsValid(), f.DstPort, f.Dst.Is6()))
}

func TestDecode(t *testing.T) {
	for _, tc := range packets {
		if got := text(decode(unhex(t, tc.hex))); got != tc.want {
			t.Errorf("%s: %s\nwant %s", tc.name, got, tc.want)
		}
	}
}

// FuzzDecode: whatever a sandbox sends is read without a fault, and every cut of it,
// too; ports are of protocols that have some.
func FuzzDecode(f *testing.F) {
	for _, p := range packets {
		f.Add(unhex(f, p.hex))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for cut := range min(len(b), copied) + 1 {
			flow := decode(b[:cut])
			if flow.Src.IsValid() != flow.Dst.IsValid() || flow.Src.Is4() != flow.Dst.Is4() {
				t.Errorf("%x: %+v", b[:cut], flow)
			}
			ported := flow.Protocol == protocolTCP || flow.Protocol == protocolUDP || flow.Protocol == protocolSCTP
			if !ported && (flow.SrcPort != 0 || flow.DstPort != 0) {
				t.Errorf("%x: ports of %s", b[:cut], flow.ProtocolName())
			}
			_ = flow.ProtocolName()
		}
	})
}
