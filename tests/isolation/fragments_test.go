package isolation

import (
	"encoding/binary"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"brig/internal/netns"
)

// TestFragmentsOfTwoSandboxes: the first fragment of one without a policy, forged in
// the name of one with, does not leave with the other's tail.
func TestFragmentsOfTwoSandboxes(t *testing.T) {
	w := newWorld(t, "")
	closed, open := w.sandbox("s1"), w.sandbox("s2")
	w.must(open.start(nil))
	wire := w.capture(w.internet, "eth0")
	fragments := func(head *sandbox, id uint16, marker string) {
		datagram := udp(open.addr, serverAddr, 9, marker+strings.Repeat(".", 64))
		first, tail := open.honest(serverAddr, ""), open.honest(serverAddr, "")
		first.id, first.fragment, first.transport = id, 0x2000, datagram[:40]
		tail.id, tail.fragment, tail.transport = id, 5, datagram[40:]
		w.inject(head.ns, "eth0", first.encode())
		w.inject(open.ns, "eth0", tail.encode())
	}
	fragments(closed, 7, "forged-head-of-a-datagram")
	fragments(open, 8, "honest-head-of-a-datagram")
	if !wire.await("honest-head") {
		t.Fatal("the honest datagram did not arrive, so nothing is proven")
	}
	if wire.saw("forged-head") {
		t.Error("a sandbox without a policy sent under its sibling's name")
	}
}

// TestFragmentMemory: first fragments without end, whose tails never come, take no more
// than a bounded amount of the node's memory, and none of a sibling's.
func TestFragmentMemory(t *testing.T) {
	w := newWorld(t, unlimited)
	flood, sibling := w.sandbox("s1"), w.sandbox("s2")
	w.must(flood.start(nil))
	w.must(sibling.start(nil))
	wire := w.capture(w.internet, "eth0")
	c := cast{self: sibling, sibling: flood}
	w.inject(sibling.ns, "eth0", fragmentsTo(serverAddr)(c, "<before>")...)
	if !wire.await("<before>") {
		t.Fatal("a datagram in two parts does not arrive even without a flood")
	}
	var frames [][]byte
	for id := range 12_000 {
		f := flood.honest(serverAddr, "")
		f.id, f.fragment, f.transport = uint16(id), 0x2000, udp(flood.addr, serverAddr, 9, strings.Repeat("x", 1400))
		frames = append(frames, f.encode())
	}
	w.inject(flood.ns, "eth0", frames...)
	for _, ns := range []string{w.cfg.TransitName(), w.host} {
		if memory := w.fragmentMemory(ns); memory > 8<<20 {
			t.Errorf("%s keeps %d bytes of fragments", ns, memory)
		}
	}
	second := fragmentsTo(serverAddr)(c, "<during>")
	w.inject(sibling.ns, "eth0", append(second, sibling.honest(serverAddr, "<control>").encode())...)
	if !wire.await("<control>") {
		t.Fatal("an honest datagram does not arrive during the flood")
	}
	if !wire.saw("<during>") {
		t.Error("during one sandbox's flood of fragments a sibling's fragmented datagram is lost")
	}
}

// fragmentMemory of a namespace, in bytes.
func (w *world) fragmentMemory(ns string) (bytes int) {
	w.t.Helper()
	w.must(netns.Do(netns.Path(ns), func() error {
		data, err := os.ReadFile("/proc/thread-self/net/sockstat")
		if err != nil {
			return err
		}
		_, memory, _ := strings.Cut(string(data), "FRAG: inuse ")
		fields := strings.Fields(memory)
		bytes, err = strconv.Atoi(fields[2])
		return err
	}))
	return bytes
}

// icmpError is a kind of error message.
type icmpError struct {
	name       string
	kind, code byte
}

// TestErrorsAboutASiblingsFlow: an ICMP error that a sandbox makes up, about a packet
// of its sibling's flow, would be translated with that flow and end or slow it.
func TestErrorsAboutASiblingsFlow(t *testing.T) {
	newWorld(t, "").errorsAbout(serverAddr, unix.IPPROTO_ICMP, []icmpError{
		{"port unreachable", 3, 3}, {"fragmentation needed", 3, 4}, {"host unreachable", 3, 1}, {"time exceeded", 11, 0}, {"parameter problem", 12, 0}, {"source quench", 4, 0}, {"redirect", 5, 1},
	})
}

// TestErrorsAboutASiblingsFlow6: the same by IPv6.
func TestErrorsAboutASiblingsFlow6(t *testing.T) {
	w := newWorld(t, "")
	w.wire6()
	w.has6(w.sandbox("has6"))
	w.errorsAbout(serverAddr6, unix.IPPROTO_ICMPV6, []icmpError{
		{"port unreachable", 1, 4}, {"no route", 1, 0}, {"packet too big", 2, 0}, {"time exceeded", 3, 0}, {"parameter problem", 4, 0}, {"redirect", 137, 0},
	})
}

func (w *world) errorsAbout(server netip.Addr, proto byte, kinds []icmpError) {
	forger, sibling := w.sandbox("s1"), w.sandbox("s2")
	w.must(forger.start(nil))
	w.must(sibling.start(nil))
	wire := w.capture(w.internet, "eth0")
	w.inject(sibling.ns, "eth0", sibling.honest(server, "<the flow>").encode())
	if !wire.await("<the flow>") {
		w.t.Fatal("the sibling's flow does not leave")
	}
	for i, kind := range kinds {
		w.t.Run(kind.name, func(t *testing.T) {
			w := w.in(t)
			// What the server could have sent to the sibling, and did not.
			about := sibling.honest(server, "")
			about.from, about.to = about.to, about.from
			about.transport = udp(about.from, about.to, 4000, marker("error", i))
			binary.BigEndian.PutUint16(about.transport, 9)
			f := forger.honest(server, "")
			f.proto = proto
			f.transport = append([]byte{kind.kind, kind.code, 0, 0, 0, 0, 5, 0}, about.encode()[14:]...)
			sum := f.transport
			if proto == unix.IPPROTO_ICMPV6 {
				sum = append(pseudo(f.from, f.to, proto, len(sum)), sum...)
			}
			binary.BigEndian.PutUint16(f.transport[2:], checksum(sum))
			w.inject(forger.ns, "eth0", f.encode(), forger.honest(server, control("error", i)).encode())
			if !wire.await(control("error", i)) {
				t.Fatal("an honest packet did not arrive, so nothing is proven")
			}
			if wire.saw(marker("error", i)) {
				t.Error("it left, as the node's word about the sibling's flow")
			}
		})
	}
}
