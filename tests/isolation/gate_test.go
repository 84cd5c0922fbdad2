package isolation

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/containerd/errdefs"

	"brig/internal/attachment"
	"brig/internal/netns"
	"brig/internal/transit"
	"brig/shim/gate"
)

// said is the gate's word as a row of a table: the part of an error that the user acts on.
func said(err error, parts ...string) string {
	if err == nil {
		return "start"
	}
	for _, part := range parts {
		if strings.Contains(err.Error(), part) {
			return part
		}
	}
	return err.Error()
}

func TestGateNetworks(t *testing.T) {
	w := newWorld(t, "")
	var got table

	none := w.bare("none")
	got.row("no link", said(none.start(nil)))
	got.row("no link: loopback is up", linkState(w, none.ns, "lo"))
	got.row("no link, list", said(none.start(allow("203.0.113.0/24")), "ctr run --cni"))
	got.row("no link, block", said(none.start(map[string]string{"brig/block-network": "true"})))

	ours := w.sandbox("ours")
	got.row("ours, block", said(ours.start(map[string]string{"brig/block-network": "true"})))
	got.row("ours, no word: bound", bound(w, ours))
	got.row("ours, list", said(ours.start(allow("203.0.113.0/24"))))
	got.row("ours: loopback is up", linkState(w, ours.ns, "lo"))
	got.row("ours, the same list", said(ours.start(allow("203.0.113.0/24", "203.0.113.7/32"))))
	got.row("ours, another list", said(ours.start(allow("8.8.8.0/24")), "another policy in force"))
	got.row("ours, open over a list", said(ours.start(map[string]string{"brig/block-network": "false"}), "another policy in force"))
	got.row("ours, bound, no word", said(ours.start(nil)))
	got.row("ours, bound, block", said(ours.start(map[string]string{"brig/block-network": "true"}), "was to have no network"))

	foreign := w.bare("foreign")
	w.ip(foreign.ns, "link add eth0 type veth peer name brg000000000000 netns "+w.host)
	got.row("foreign", said(foreign.start(nil)))
	got.row("foreign: loopback is up", linkState(w, foreign.ns, "lo"))
	got.row("foreign, list", said(foreign.start(allow("203.0.113.0/24")), "not of brig's network, so its annotations cannot be enforced"))
	w.cfg.Network.Unmanaged = "refuse"
	got.row("foreign, refused by configuration", said(foreign.start(nil), "network.unmanaged"))
	w.cfg.Network.Unmanaged = "allow"

	mixed := w.sandbox("mixed")
	w.ip(mixed.ns, "link add eth1 type veth peer name mixed1 netns "+w.host)
	got.row("mixed", said(mixed.start(nil), "go round"))
	w.ip(mixed.ns, "link del eth1")
	got.row("mixed no more", said(mixed.start(nil)))

	got.row("host's", said(w.startIn(netns.Path(w.host)), "in the host's network namespace"))
	got.row("transit", said(w.startIn(w.transit()), "transit network namespace"))
	got.compare(t, `
no link                            start
no link: loopback is up            up
no link, list                      ctr run --cni
no link, block                     start
ours, block                        start
ours, no word: bound               
ours, list                         start
ours: loopback is up               up
ours, the same list                start
ours, another list                 another policy in force
ours, open over a list             another policy in force
ours, bound, no word               start
ours, bound, block                 was to have no network
foreign                            start
foreign: loopback is up            up
foreign, list                      not of brig's network, so its annotations cannot be enforced
foreign, refused by configuration  network.unmanaged
mixed                              go round
mixed no more                      start
host's                             in the host's network namespace
transit                            transit network namespace
`)
}

// startIn asks the gate for a process in the namespace at path.
func (w *world) startIn(path string) error {
	cmd := exec.Command("sleep", "60")
	w.must(netns.Do(path, cmd.Start))
	defer end(cmd)
	return w.onHost(func() error {
		return gate.Check(w.t.Context(), &w.cfg, gate.Request{Namespace: "default", ID: "x", SentryPID: cmd.Process.Pid})
	})
}

func linkState(w *world, ns, link string) string {
	out, err := exec.Command("ip", "-n", ns, "link", "show", link).Output()
	w.must(err)
	if strings.Contains(string(out), "UP") {
		return "up"
	}
	return "down"
}

func bound(w *world, s *sandbox) (chain string) {
	live, err := transit.Rules(&w.cfg).Live()
	w.must(err)
	for _, l := range live {
		if l.Link == s.link() {
			chain = l.Chain
		}
	}
	return chain
}

// TestGateLookalikes: names and aliases can be copied; a namespace's inode cannot.
func TestGateLookalikes(t *testing.T) {
	w := newWorld(t, "[network]\nunmanaged = \"refuse\"\n")
	ours := w.sandbox("ours")
	forge := func(name, peerNS string, ofNS uint64) error {
		s := w.bare(name)
		if ofNS == 0 {
			var err error
			ofNS, err = netns.ID(netns.Path(s.ns))
			w.must(err)
		}
		alias, err := attachment.Identity{Key: s.key(), NetNS: ofNS}.Alias()
		w.must(err)
		w.ip(s.ns, "link add eth0 type veth peer name "+s.link()+" netns "+peerNS)
		out, err := exec.Command("ip", "-n", peerNS, "link", "set", s.link(), "alias", alias).CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return s.start(nil)
	}
	id, err := netns.ID(netns.Path(ours.ns))
	w.must(err)
	var got table
	got.row("right alias, in the host", said(forge("l1", w.host, 0), "not of brig's network"))
	got.row("in the transit, another's alias", said(forge("l2", w.cfg.TransitName(), id), "not of brig's network"))
	got.row("in the transit, never attached", said(forge("l3", w.cfg.TransitName(), 0), "another MAC address"))
	got.row("ours", said(ours.start(nil)))
	got.compare(t, `
right alias, in the host           not of brig's network
in the transit, another's alias    not of brig's network
in the transit, never attached     another MAC address
ours                               start
`)
}

func TestGateClaims(t *testing.T) {
	w := newWorld(t, "")
	s := w.sandbox("s1")
	w.must(s.start(nil))
	second := *s
	second.id = "default-second"
	second.boot()
	var got table
	got.row("taken", said(second.start(nil), "is taken by sandbox s1 of containerd namespace default"))
	got.row("asked again by the owner", said(s.start(nil)))
	s.kill()
	got.row("the owner has ended", said(second.start(nil)))
	w.must(w.onHost(func() error { return gate.Release(t.Context(), &w.cfg, "default", "second") }))
	entries, err := os.ReadDir(w.cfg.NetworkDir() + "/claims")
	w.must(err)
	if len(entries) != 0 {
		t.Errorf("claims are left: %v", entries)
	}
	got.compare(t, `
taken                              is taken by sandbox s1 of containerd namespace default
asked again by the owner           start
the owner has ended                start
`)
}

func TestGateAnnotations(t *testing.T) {
	w := newWorld(t, "")
	s := w.sandbox("s1")
	for _, tc := range []struct {
		annotations map[string]string
		want        string
		class       func(error) bool
	}{
		{map[string]string{"brig/cidr-allowlist": "not-an-ip/8"}, "Invalid CIDR: not-an-ip/8", errdefs.IsInvalidArgument},
		{map[string]string{"brig/cidr-allowlist": "10.0.0.1/8"}, "write 10.0.0.0/8", errdefs.IsInvalidArgument},
		{map[string]string{"brig/cidr-allowlist": "169.254.169.254/32"}, "allow_private", errdefs.IsInvalidArgument},
		{map[string]string{"brig/block-network": "true", "brig/cidr-allowlist": ""}, "cannot be used when block_network is enabled", errdefs.IsInvalidArgument},
		{map[string]string{"brig/cidr-allowlists": "8.8.8.0/24"}, "unknown annotation", errdefs.IsInvalidArgument},
	} {
		err := s.start(tc.annotations)
		if err == nil || !strings.Contains(err.Error(), tc.want) || !tc.class(err) {
			t.Errorf("%v: error %v, want one that contains %q", tc.annotations, err, tc.want)
		}
	}
	if chain := bound(w, s); chain != "" {
		t.Errorf("a refused start bound %s", chain)
	}
}
