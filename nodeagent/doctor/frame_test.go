package doctor

import (
	"archive/tar"
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestFramesAsBytes holds the encoders against bytes that were checked by hand: with a
// wrong checksum a kernel would drop what the rules might have let pass.
func TestFramesAsBytes(t *testing.T) {
	f := testFrame(ownAddr, docAddr, []byte("hi"))
	f.id, f.options = 7, []byte{0x94, 4, 0, 0}
	const ether, ip = "0200a9fe01010201" + "0a580005" + "0800", "46000022000700004011"
	got := hex.EncodeToString(f.encode())
	if want := ether + ip; got[:len(want)] != want {
		t.Errorf("frame %s, want it to begin with %s", got, want)
	}
	packet := f.packet()
	if sum := checksum(packet[:24]); sum != 0 {
		t.Errorf("the header's checksum is off by %#x", sum)
	}
	tcp := segment{from: 1, to: 2, seq: 3, ack: 4, flags: flagSYN, payload: []byte("odd")}.encode(ownAddr, docAddr)
	pseudo := append(append(bytes.Clone(ownAddr.AsSlice()), docAddr.AsSlice()...), 0, protoTCP, 0, byte(len(tcp)))
	if sum := checksum(pseudo, tcp); sum != 0 {
		t.Errorf("TCP's checksum is off by %#x", sum)
	}
	if sum := checksum(icmp(8, 0, [4]byte{1, 2, 3, 4}, []byte("abc"))); sum != 0 {
		t.Errorf("ICMP's checksum is off by %#x", sum)
	}
	from, to := netip.MustParseAddr("fe80::1"), netip.MustParseAddr("ff02::1")
	six := icmp6(from, to, 134, [4]byte{64}, []byte("1234"))
	a, b := from.As16(), to.As16()
	pseudo = append(append(a[:], b[:]...), 0, 0, 0, byte(len(six)-40), 0, 0, 0, protoICMPv6)
	if sum := checksum(pseudo, six[40:]); sum != 0 {
		t.Errorf("ICMPv6's checksum is off by %#x", sum)
	}
}

func TestArchiveHoldsTheProbe(t *testing.T) {
	data, err := archive([]byte("program"), "brig.internal/doctor:1")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	in := tar.NewReader(bytes.NewReader(data))
	var found bool
	for {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(in)
		if err != nil {
			t.Fatal(err)
		}
		found = found || bytes.Contains(content, []byte("program")) && bytes.Contains(content, []byte("brig-probe"))
		if len(h.Name) < 20 {
			names = append(names, h.Name)
		}
	}
	if diff := cmp.Diff([]string{"oci-layout", "index.json"}, names); diff != "" || !found {
		t.Errorf("the probe is in it: %t; %s", found, diff)
	}
}
