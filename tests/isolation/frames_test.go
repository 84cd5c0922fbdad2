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
						if seen, want := wire.saw(marker(run, i)), leaves && place != "sibling"; seen != want {
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
