package isolation

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// TestHostileFrames: of what a sandbox writes on its link nothing reaches the host, a
// sibling or the internet but what its policy admits. Each attack is made twice: as raw
// frames in the sandbox's namespace, which is what a compromised sentry could do, and by
// a program inside gVisor; and under two policies.
func TestHostileFrames(t *testing.T) {
	w := newWorld(t, "[network]\nnode_addresses = [\"192.0.2.7\"]\n"+unlimited)
	w.bridge()
	w.makeAll(hostile(), wide)
}

// bridge gives the host what another container engine would: a private network.
func (w *world) bridge() {
	for _, args := range []string{"link add docker0 type bridge", "addr add 172.17.0.1/16 dev docker0", "link set docker0 up"} {
		w.ip(w.host, args)
	}
}

// makeAll makes the attacks, in each way and under each of two policies, open and a list, as
// a subtest each.
func (w *world) makeAll(attacks []attack, list map[string]string) {
	slices.SortFunc(attacks, func(a, b attack) int { return strings.Compare(a.name, b.name) })
	sibling := w.sandbox("sibling")
	w.must(sibling.start(nil))
	wires := map[string]*capture{
		"host": w.capture(w.host, w.cfg.HostLink()), "internet": w.capture(w.internet, "eth0"), "sibling": w.capture(sibling.ns, "eth0"),
		"transit": w.delivered(w.cfg.TransitName()),
	}
	for _, policy := range []struct {
		name        string
		annotations map[string]string
	}{{"open", nil}, {"listed", list}} {
		for way, send := range map[string]func(*sandbox, [][]byte){
			"raw": func(s *sandbox, frames [][]byte) {
				w.must(s.start(policy.annotations))
				w.inject(s.ns, "eth0", frames...)
			},
			"gvisor": func(s *sandbox, frames [][]byte) {
				out := w.gvisor(s, guest{annotations: policy.annotations, args: []string{"frames", "/file"}, file: frameFile(frames), raw: true})
				if want := fmt.Sprintf("wrote %d frames\n", len(frames)); out != want {
					w.t.Fatalf("the program in the sandbox says %q, want %q", out, want)
				}
			},
		} {
			run := way + " " + policy.name
			n := byte(len(run)) // another for each
			c := cast{self: w.sandbox(way + policy.name), sibling: sibling, listed: netip.AddrFrom4([4]byte{8, 8, n, 8}), unlisted: netip.AddrFrom4([4]byte{201, 8, n, 8})}
			for i, s := range []*sandbox{c.self, c.sibling} {
				if !s.addr6.IsValid() { // what it could take for one
					s.addr6 = netip.AddrFrom16([16]byte{0xfd, 0x88, 15: byte(i + 1)})
				}
			}
			var frames [][]byte
			for i, a := range attacks {
				frames = append(frames, a.frames(c, marker(run, i))...)
				frames = append(frames, c.self.honest(serverAddr, control(run, i)).encode())
			}
			send(c.self, frames)
			if !wires["internet"].await(control(run, len(attacks)-1)) {
				w.t.Fatalf("%s: the last control's packet did not arrive, so nothing is proven", run)
			}
			for i, a := range attacks {
				w.t.Run(run+"/"+a.name, func(t *testing.T) {
					if !wires["internet"].saw(control(run, i)) || !wires["host"].saw(control(run, i)) || wires["sibling"].saw(control(run, i)) {
						t.Error("the honest packet after it went elsewhere than to the internet, so nothing is proven")
					}
					leaves := a.open && policy.name == "open" || a.listed && policy.name == "listed"
					for place, wire := range wires {
						if seen, want := wire.saw(marker(run, i)), leaves && (place == "host" || place == "internet"); seen != want {
							t.Errorf("seen by the %s: %t, want %t", place, seen, want)
						}
					}
				})
			}
		}
	}
}

// marker of an attack, and of the control after it: of one length, none part of another.
func marker(run string, i int) string  { return fmt.Sprintf("<%s %03d!>", run, i) }
func control(run string, i int) string { return fmt.Sprintf("<%s %03d.>", run, i) }

// TestFloodOfIdentities: a MAC flood teaches nobody anything.
func TestFloodOfIdentities(t *testing.T) {
	w := newWorld(t, "")
	s := w.sandbox("s1")
	w.must(s.start(nil))
	wire := w.capture(w.host, w.cfg.HostLink())
	var frames [][]byte
	for i := range 5000 {
		f := s.honest(serverAddr, "flood-of-frames")
		f.src = net.HardwareAddr{2, 0x66, 0, 0, byte(i >> 8), byte(i)}
		frames = append(frames, f.encode())
	}
	w.inject(s.ns, "eth0", append(frames, s.honest(serverAddr, "control-of-frames").encode())...)
	if !wire.await("control-of-frames") || wire.saw("flood-of-frames") {
		t.Errorf("control arrived: %t; the flood arrived: %t", wire.saw("control-of-frames"), wire.saw("flood-of-frames"))
	}
}

// TestAttacksAreSeen: the captures tell, when the rules are open. What is seen then and
// what the kernel does not pass on even so stands here.
func TestAttacksAreSeen(t *testing.T) {
	w := newWorld(t, unlimited)
	w.wire6()
	w.bridge()
	self, sibling := w.sandbox("self"), w.sandbox("sibling")
	w.must(self.start(nil))
	w.must(sibling.start(nil))
	w.nft(w.cfg.TransitName(), "delete table inet brig\ndelete table arp brig\n")
	w.nft(w.host, "delete table inet "+w.cfg.HostTable()+"\n")
	wires := []*capture{w.capture(w.host, w.cfg.HostLink()), w.capture(w.internet, "eth0"), w.capture(sibling.ns, "eth0"), w.delivered(w.cfg.TransitName())}
	c := cast{self: self, sibling: sibling, listed: netip.MustParseAddr("8.8.8.8"), unlisted: netip.MustParseAddr("201.8.8.8")}
	attacks := hostile()
	if self.addr6.IsValid() {
		attacks = append(attacks, hostile6()...)
	}
	var frames [][]byte
	for i, a := range attacks {
		frames = append(frames, a.frames(c, marker("seen", i))...)
	}
	w.inject(self.ns, "eth0", append(frames, self.honest(serverAddr, "<last>").encode())...)
	if !wires[1].await("<last>") {
		t.Fatal("nothing passes though there are no rules")
	}
	seen := map[string]bool{}
	for i, a := range attacks {
		for _, wire := range wires {
			seen[a.name] = seen[a.name] || wire.saw(marker("seen", i))
		}
	}
	for _, name := range []string{
		"spoofed source: sibling", "spoofed source and MAC: sibling", "spoofed MAC: sibling", "spoofed source: server", "spoofed source: internet", "spoofed source: pool's next",
		"sibling directly", "sibling directly, TCP", "SCTP to the sibling", "GRE to the sibling", "ICMP to the sibling",
		"to host", "TCP to host", "to host's second address", "to host's bridge", "to cloud-mapped address of the node", "to host's link", "ICMP to the host", "SCTP to the host", "IPIP to the host", "6in4 to the host", "IGMP to the host", "fragments to the host",
		"to metadata", "to metadata 100.100.100.200", "to metadata 168.63.129.16", "to private 10/8", "to private 192.168/16", "to shared 100.64/10", "TCP to private 172.16/12", "to benchmarks 198.18/15",
		"to transit's link", "TCP to gateway", "GRE to the link", "to multicast", "to broadcast",
	} {
		if !seen[name] {
			t.Errorf("%s is not seen though there are no rules", name)
		}
	}
	t.Logf("%d of %d attacks are seen when there are no rules; the kernel itself passes the others on to nobody", len(seen)-unseen(seen), len(seen))
}

func unseen(seen map[string]bool) (n int) {
	for _, was := range seen {
		if !was {
			n++
		}
	}
	return n
}
