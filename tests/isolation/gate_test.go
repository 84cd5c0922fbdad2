package isolation

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"brig/internal/attachment"
	"brig/internal/netns"
	"brig/internal/netpolicy"
	"brig/internal/netpolicy/nft"
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
	for _, link := range []string{"macvlan", "macvtap"} {
		w.ip(mixed.ns, "link add eth1 link eth0 type "+link)
		got.row("mixed, "+link, said(mixed.start(nil), "go round"))
		w.ip(mixed.ns, "link del eth1")
	}
	w.ip(mixed.ns, "link add br0 type bridge")
	w.ip(mixed.ns, "link set eth0 master br0")
	got.row("mixed, a bridge's port", said(mixed.start(nil), "interface br0 of the sandbox is not of brig's network"))
	w.ip(mixed.ns, "link del br0")
	w.ip(mixed.ns, "tuntap add dev tun0 mode tun")
	got.row("mixed, tun, down", said(mixed.start(nil), "go round"))
	w.ip(mixed.ns, "link del tun0")
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
mixed, macvlan                     go round
mixed, macvtap                     go round
mixed, a bridge's port             interface br0 of the sandbox is not of brig's network
mixed, tun, down                   go round
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

// watched is start with somebody who is told of links that come later.
func (s *sandbox) watched(annotations map[string]string) (told chan error, err error) {
	told = make(chan error, 1)
	gone := make(chan struct{})
	s.w.t.Cleanup(func() { close(gone) })
	return told, s.w.onHost(func() error {
		block, err := gate.Plan(annotations, &s.w.cfg)
		if err != nil {
			return err
		}
		return gate.Check(s.w.t.Context(), &s.w.cfg, gate.Request{
			Namespace: "default", ID: strings.TrimPrefix(s.id, "default-"), SentryPID: s.sentry.Process.Pid, Annotations: annotations, BlockNetwork: block,
			Intruded: func(err error) { told <- err }, Gone: gone,
		})
	})
}

// news is what a watch has said after a while: nothing, or the part of it.
func news(told <-chan error, part string) string {
	select {
	case err := <-told:
		return said(err, part)
	case <-time.After(patience):
		return "nothing"
	}
}

// TestGateLinksThatComeLater: whoever may change the namespace can put a link into it
// at any time, and a sentry that was taken over sends on every link that is there.
func TestGateLinksThatComeLater(t *testing.T) {
	w := newWorld(t, "")
	var got table
	for i, tc := range []struct{ name, link string }{
		{"veth", "link add eth1 type veth peer name later1 netns " + w.host},
		{"macvlan", "link add eth1 link eth0 type macvlan"},
		{"macvtap", "link add eth1 link eth0 type macvtap"},
		{"bridge", "link add eth1 type bridge"},
		{"tunnel", "link add eth1 type vxlan id 7 dstport 4789"},
		{"tun", "tuntap add dev eth1 mode tun"},
		{"tap", "tuntap add dev eth1 mode tap"},
	} {
		s := w.sandbox(fmt.Sprintf("late%d", i))
		told, err := s.watched(allow("203.0.113.0/24"))
		w.must(err)
		w.ip(s.ns, tc.link)
		got.row(tc.name, news(told, "interface eth1 came into"))
	}

	second := w.sandbox("second")
	told, err := second.watched(nil)
	w.must(err)
	_, err = w.cniAs(t.Context(), "eth1", "ADD", second.id, netns.Path(second.ns), nil)
	w.must(err)
	got.row("another of the node's", news(told, "eth1"))
	w.ip(second.ns, "link del eth1")
	got.row("it goes", news(told, "eth1"))
	w.ip(second.ns, "link set lo down")
	w.ip(second.ns, "link set eth0 mtu 1400")
	got.row("changes", news(told, "eth1"))

	none := w.bare("nolink")
	told, err = none.watched(map[string]string{"brig/block-network": "true"})
	w.must(err)
	w.ip(none.ns, "link add eth1 type bridge")
	got.row("blocked", news(told, "interface eth1 came into"))

	foreign := w.bare("unpoliced")
	w.ip(foreign.ns, "link add eth0 type bridge")
	told, err = foreign.watched(nil)
	w.must(err)
	w.ip(foreign.ns, "link add eth1 type bridge")
	got.row("not policed", news(told, "eth1"))
	got.compare(t, `
veth                               interface eth1 came into
macvlan                            interface eth1 came into
macvtap                            interface eth1 came into
bridge                             interface eth1 came into
tunnel                             interface eth1 came into
tun                                interface eth1 came into
tap                                interface eth1 came into
another of the node's              nothing
it goes                            nothing
changes                            nothing
blocked                            interface eth1 came into
not policed                        nothing
`)
}

// TestGateRacesWithLinks: a foreign link that comes while the gate looks is refused or
// told of, whichever comes first.
func TestGateRacesWithLinks(t *testing.T) {
	w := newWorld(t, "")
	refused, told := 0, 0
	for i := range 12 {
		s := w.sandbox(fmt.Sprintf("race%d", i))
		ready := make(chan struct{})
		added := make(chan error)
		go func() {
			<-ready
			time.Sleep(time.Duration(i) * 4 * time.Millisecond)
			added <- exec.Command("ip", "-n", s.ns, "link", "add", "eth1", "type", "bridge").Run()
		}()
		close(ready)
		later, err := s.watched(allow("203.0.113.0/24"))
		w.must(<-added)
		if err != nil {
			refused++
			continue
		}
		if got := news(later, "eth1"); got != "eth1" {
			t.Errorf("round %d: started, and of the link it is told: %s", i, got)
		}
		told++
	}
	t.Logf("%d refused, %d told of", refused, told)
}

// TestGateNeighbours: what is of another node on the machine is not this one's to run
// in, whatever its configuration says of foreign networks.
func TestGateNeighbours(t *testing.T) {
	w := newWorld(t, "")
	other := w.neighbour("")
	theirs := other.sandbox("theirs")
	w.must(theirs.start(nil))
	mine := *theirs
	mine.w, mine.id = w, "default-mine"
	mine.boot()
	var got table
	got.row("another node's sandbox", said(mine.start(nil), "of another node's network"))
	got.row("another node's transit", said(w.startIn(other.transit()), "transit network namespace "+other.cfg.TransitName()))
	named := w.bare("named") // whoever calls a namespace so means nothing by it
	w.must(netns.Create("brig-" + named.ns))
	t.Cleanup(func() { w.must(netns.Delete("brig-" + named.ns)) })
	got.row("a name alone", said(w.startIn(netns.Path("brig-"+named.ns))))
	got.compare(t, `
another node's sandbox             of another node's network
another node's transit             transit network namespace `+other.cfg.TransitName()+`
a name alone                       start
`)
}

// TestGateNames: a domain list starts only where somebody answers for its names, and
// that is whoever has the sockets, not whoever says so.
func TestGateNames(t *testing.T) {
	w := newWorld(t, "")
	names := map[string]string{"brig/domain-allowlist": "example.com"}
	var got table
	none := w.bare("none")
	got.row("no network", said(none.start(names), "ctr run --cni"))
	s := w.sandbox("s1")
	verdict := func() string {
		return said(s.start(names), "nothing listens on UDP port 53", "nothing listens on TCP port 53", "nothing listens on TCP port 8443")
	}
	got.row("no brigd", verdict())
	at := func(port uint16) netip.AddrPort { return netip.AddrPortFrom(netip.MustParseAddr(nft.Gateway), port) }
	packets, err := transit.ListenPacket(t.Context(), &w.cfg, at(53))
	w.must(err)
	defer packets.Close()
	got.row("UDP", verdict())
	var listeners []net.Listener
	for _, port := range []uint16{53, 8443} {
		l, err := transit.Listen(t.Context(), &w.cfg, at(port))
		w.must(err)
		defer l.Close()
		listeners = append(listeners, l)
		got.row(fmt.Sprint("TCP ", port), verdict())
	}
	w.must(listeners[1].Close())
	got.row("the proxy has ended", verdict())
	w.listen(w.host, "0.0.0.0:8443") // in another namespace it is nobody's
	got.row("a proxy elsewhere", verdict())
	got.compare(t, `
no network                         ctr run --cni
no brigd                           nothing listens on UDP port 53
UDP                                nothing listens on TCP port 53
TCP 53                             nothing listens on TCP port 8443
TCP 8443                           start
the proxy has ended                nothing listens on TCP port 8443
a proxy elsewhere                  nothing listens on TCP port 8443
`)
}

// TestGateOperator: nothing said is the operator's default, annotations choose within
// the ceiling, and neither can be left by another network.
func TestGateOperator(t *testing.T) {
	w := newWorld(t, `
[network.default]
cidr_allowlist = ["203.0.113.0/25"]
[network.ceiling]
cidr_allowlist = ["203.0.113.0/24", "8.8.8.8/32"]
`)
	w.listen(w.internet, "203.0.113.2:80")
	w.listen(w.internet, "203.0.113.130:80")
	w.listen(w.internet, "8.8.8.8:80")
	var got table
	for i, tc := range []struct {
		name        string
		annotations map[string]string
	}{
		{"nothing said", nil},
		{"another part", allow("203.0.113.128/25")},
		{"all of it", allow("203.0.113.0/24", "8.8.8.8/32")},
		{"less", allow()},
		{"block-network=false", map[string]string{"brig/block-network": "false"}},
	} {
		s := w.sandbox(fmt.Sprintf("o%d", i))
		w.must(s.start(tc.annotations))
		got.row(tc.name, try(s.ns, serverAddr, 80)+" "+try(s.ns, otherAddr, 80)+" "+try(s.ns, netip.MustParseAddr("8.8.8.8"), 80))
	}
	s := w.sandbox("beyond")
	for name, annotations := range map[string]map[string]string{
		"beyond": allow("8.8.8.0/24"), "names": {"brig/domain-allowlist": "example.com"}, "dns": {"brig/dns": "resolver"},
	} {
		if err := s.start(annotations); err == nil || !strings.Contains(err.Error(), "is more than this node permits (8.8.8.8-8.8.8.8, 203.0.113.0-203.0.113.255; dns off)") {
			t.Errorf("%s: %v", name, err)
		}
	}
	foreign := w.bare("foreign")
	w.ip(foreign.ns, "link add eth0 type veth peer name foreign0 netns "+w.host)
	got.row("a foreign network", said(foreign.start(nil), "the policy in the configuration (network.default, network.ceiling) cannot be enforced"))
	got.row("no network", said(w.bare("none").start(nil)))
	got.compare(t, `
nothing said                       open refused refused
another part                       refused open refused
all of it                          open open open
less                               refused refused refused
block-network=false                open refused refused
a foreign network                  the policy in the configuration (network.default, network.ceiling) cannot be enforced
no network                         start
`)
}

// TestGateSameName: ctr and nerdctl call container c of namespace a-b what they call
// container b-c of namespace a. The one that comes second cuts the first off, and
// neither gets what the other has.
func TestGateSameName(t *testing.T) {
	w := newWorld(t, "")
	w.listen(w.internet, "203.0.113.2:80")
	w.listen(w.internet, "203.0.113.130:80")
	first, second := w.bare("one"), w.bare("two")
	first.id, second.id = "a-b-c", "a-b-c"
	var got table
	for _, s := range []*sandbox{first, second} {
		_, err := w.cni(t.Context(), "ADD", s.id, netns.Path(s.ns), nil)
		w.must(err)
		if s == first {
			w.must(s.start(allow("203.0.113.0/25")))
			got.row("the first, before", try(first.ns, serverAddr, 80)+", "+try(first.ns, otherAddr, 80))
		}
	}
	got.row("the second, before its start", try(second.ns, otherAddr, 80))
	got.row("the first again", said(first.start(allow("203.0.113.0/25")), "has no network on which its annotations could be enforced"))
	w.must(second.start(allow("203.0.113.128/25")))
	got.row("the second", try(second.ns, serverAddr, 80)+", "+try(second.ns, otherAddr, 80))
	if got := try(first.ns, otherAddr, 80) + try(first.ns, serverAddr, 80); strings.Contains(got, "open") {
		t.Errorf("the first reaches something: %s", got)
	}
	got.compare(t, `
the first, before                  open, refused
the second, before its start       silence
the first again                    has no network on which its annotations could be enforced
the second                         refused, open
`)
}

// change puts another policy in force as brigd does.
func (s *sandbox) change(t *testing.T, spec netpolicy.Spec, lease time.Duration) {
	t.Helper()
	ceiling, err := s.w.cfg.Network.PolicyCeiling()
	s.w.must(err)
	policy, err := netpolicy.Compile(spec, ceiling)
	s.w.must(err)
	s.w.must(s.w.onHost(func() error {
		return transit.With(t.Context(), &s.w.cfg, func(_ context.Context, node transit.Node) error {
			_, err := node.Change(s.link(), policy, 0, lease)
			return err
		})
	}))
}

// generation that is in force, and how it is with two servers.
func (s *sandbox) inForce() string {
	seat, err := transit.Records(&s.w.cfg).Get(s.link())
	s.w.must(err)
	return fmt.Sprint(seat.InForce(transit.Now()).Generation, ": ", try(s.ns, serverAddr, 80), " ", try(s.ns, otherAddr, 80))
}

// TestGateGenerations: whoever starts later verifies what the namespace was made with,
// and gets what is in force now.
func TestGateGenerations(t *testing.T) {
	w := newWorld(t, "[network.limits]\nconnections = 0\nnew_connections = 0\n")
	w.listen(w.internet, "203.0.113.2:80")
	w.listen(w.internet, "203.0.113.130:80")
	low, high := allow("203.0.113.0/25"), allow("203.0.113.128/25")
	s := w.sandbox("s1")
	var got table
	got.row("the first", said(s.start(low))+", "+s.inForce())
	s.change(t, netpolicy.Spec{CIDRAllowlist: &[]string{"203.0.113.128/25"}}, 0)
	got.row("changed", s.inForce())
	got.row("the sidecar again", said(s.start(low))+", "+s.inForce())
	got.row("the same in other words", said(s.start(allow("203.0.113.64/26", "203.0.113.0/26")))+", "+s.inForce())
	got.row("a sidecar that says nothing", said(s.start(nil))+", "+s.inForce())
	got.row("what is in force by now", said(s.start(high), "another policy in force already")+", "+s.inForce())
	got.row("more inbound", said(s.start(map[string]string{"brig/cidr-allowlist": "203.0.113.0/25", "brig/inbound-cidr-allowlist": "0.0.0.0/0"}), "another policy in force already"))
	s.change(t, netpolicy.Spec{CIDRAllowlist: &[]string{"203.0.113.0/24"}}, 700*time.Millisecond)
	got.row("under a lease", said(s.start(low))+", "+s.inForce())
	time.Sleep(800 * time.Millisecond)
	got.row("the lease has ended", said(s.start(low))+", "+s.inForce())
	s.change(t, netpolicy.Spec{BlockNetwork: true}, 0)
	got.row("blocked by a change", said(s.start(low)))
	if open := try(s.ns, serverAddr, 80) + try(s.ns, otherAddr, 80); strings.Contains(open, "open") {
		t.Errorf("after a block: %s", open)
	}
	got.row("blocked from the start", said(s.start(map[string]string{"brig/block-network": "true"})))

	// Somebody's hand in the rules: a later start repairs them or is refused, and never
	// brings the first policy back.
	other := w.sandbox("s2")
	w.must(other.start(low))
	other.change(t, netpolicy.Spec{CIDRAllowlist: &[]string{"203.0.113.128/25"}}, 0)
	w.must(netns.Do(w.transit(), func() error { return exec.Command("nft", "flush", "map", "inet", "brig", "egress").Run() }))
	got.row("flushed by hand", try(other.ns, otherAddr, 80))
	got.row("the sidecar then", said(other.start(low))+", "+other.inForce())
	got.compare(t, `
the first                          start, 1: open refused
changed                            2: refused open
the sidecar again                  start, 2: refused open
the same in other words            start, 2: refused open
a sidecar that says nothing        start, 2: refused open
what is in force by now            another policy in force already, 2: refused open
more inbound                       another policy in force already
under a lease                      start, 3: open open
the lease has ended                start, 2: refused open
blocked by a change                start
blocked from the start             start
flushed by hand                    silence
the sidecar then                   start, 2: refused open
`)
}

// TestGateSecondInterface: an interface that comes after the policy is no way to bring an
// older or another one into force.
func TestGateSecondInterface(t *testing.T) {
	w := newWorld(t, "")
	add := func(s *sandbox, conf map[string]any) string {
		t.Helper()
		_, err := w.cniAs(t.Context(), "eth1", "ADD", s.id, netns.Path(s.ns), conf)
		w.must(err)
		return attachment.Key{Network: "brig", ContainerID: s.id, IfName: "eth1"}.Link()
	}
	policyOf := func(link string) string {
		seat, err := transit.Records(&w.cfg).Get(link)
		w.must(err)
		if g := seat.InForce(transit.Now()); g != nil {
			return g.Policy.String()
		}
		return "deny"
	}
	none := netpolicy.Spec{CIDRAllowlist: &[]string{}}
	var got table
	both := w.sandbox("both")
	second := add(both, nil)
	got.row("both before the start", said(both.start(allow("8.8.8.0/24")))+", "+policyOf(second))

	late := w.sandbox("late")
	told, err := late.watched(nil)
	w.must(err)
	late.change(t, none, 0)
	second = add(late, nil)
	got.row("after a change", policyOf(second)+", told: "+news(told, "eth1"))
	got.row("the sidecar again", said(late.start(nil))+", "+policyOf(late.link())+", "+policyOf(second))

	wide := w.sandbox("wide")
	told, err = wide.watched(allow("8.8.8.0/24"))
	w.must(err)
	canonical := string(netpolicy.Open().Canonical())
	second = add(wide, map[string]any{"runtimeConfig": map[string]any{"brig.network-policy": canonical}, "capabilities": map[string]bool{"brig.network-policy": true}})
	got.row("with a policy of its own", policyOf(second)+", told: "+news(told, "has another policy"))
	got.row("the sidecar then", said(wide.start(allow("8.8.8.0/24")), "another policy in force already"))
	got.row("and one that says nothing", said(wide.start(nil), "another policy in force already"))
	got.compare(t, `
both before the start              start, 1 ranges
after a change                     deny, told: nothing
the sidecar again                  start, 0 ranges, deny
with a policy of its own           open, told: has another policy
the sidecar then                   another policy in force already
and one that says nothing          another policy in force already
`)
}
