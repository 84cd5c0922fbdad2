package isolation

import (
	"fmt"
	"net/netip"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"brig/internal/netns"
	"brig/internal/transit"
)

// foreignSoftware is what somebody else does to the host's rules. In them %[1]s is the
// node's link, and SELF, SIBLING and OWN are two sandboxes and the node's own table.
type foreignSoftware struct {
	name   string
	rules  string // nft's
	script string // commands in the host
	opens  bool   // the listed server is still reached
	bare   bool   // and with it the table that translates sources is gone
}

var foreign = []foreignSoftware{
	{name: "nothing", opens: true},
	{name: "docker", rules: `table ip filter {
		chain DOCKER-USER { return; }
		chain DOCKER { ip daddr 172.17.0.2 tcp dport 80 accept; }
		chain FORWARD { type filter hook forward priority 0; policy drop; jump DOCKER-USER; oifname docker0 ct state established,related accept; iifname docker0 accept; }
	}
	table ip nat {
		chain DOCKER { tcp dport 8080 dnat to 172.17.0.2:80; }
		chain PREROUTING { type nat hook prerouting priority dstnat; fib daddr type local jump DOCKER; }
		chain POSTROUTING { type nat hook postrouting priority srcnat; ip saddr 172.17.0.0/16 oifname != docker0 masquerade; }
	}`},
	{name: "docker, with its remedy", rules: `table ip filter {
		chain DOCKER-USER { iifname %[1]s accept; oifname %[1]s ct state established,related accept; return; }
		chain FORWARD { type filter hook forward priority 0; policy drop; jump DOCKER-USER; }
	}`, opens: true},
	{name: "firewalld, which accepts", rules: `table inet firewalld {
		chain first { type filter hook prerouting priority -290; policy accept; accept; }
		chain entry { type filter hook input priority -290; policy accept; accept; }
		chain through { type filter hook forward priority -290; policy accept; accept; }
		chain entry2 { type filter hook input priority 10; policy accept; accept; }
		chain through2 { type filter hook forward priority 10; policy accept; accept; }
	}`, opens: true},
	{name: "firewalld, which rejects", rules: `table inet firewalld {
		chain through { type filter hook forward priority 10; policy accept; ct state established,related accept; reject with icmpx admin-prohibited; }
	}`},
	{name: "DNAT of what a sandbox may reach to the host", rules: `table ip foreign {
		chain first { type nat hook prerouting priority dstnat; iifname %[1]s tcp dport 80 dnat to 203.0.113.1:22; iifname %[1]s udp dport 9 dnat to 203.0.113.1:22; }
	}`},
	{name: "DNAT to the host's loopback", rules: `table ip foreign {
		chain first { type nat hook prerouting priority dstnat; iifname %[1]s tcp dport 80 dnat to 127.0.0.1:22; iifname %[1]s udp dport 9 dnat to 127.0.0.1:22; }
	}`},
	{name: "DNAT to a sibling", rules: `table ip foreign {
		chain first { type nat hook prerouting priority dstnat; iifname %[1]s tcp dport 80 dnat to SIBLING:8080; iifname %[1]s udp dport 9 dnat to SIBLING:8080; }
	}`},
	{name: "REDIRECT", rules: `table ip foreign {
		chain first { type nat hook prerouting priority dstnat; tcp dport 80 redirect to :22; udp dport 9 redirect to :22; }
	}`},
	{name: "DNAT of a published port to a sandbox", rules: `table ip foreign {
		chain first { type nat hook prerouting priority dstnat; iifname wan tcp dport 8080 dnat to SELF:8080; iifname wan udp dport 8080 dnat to SELF:8080; }
		chain sent { type nat hook output priority -100; tcp dport 8080 dnat to SELF:8080; }
		chain last { type nat hook postrouting priority 90; oifname %[1]s masquerade; }
	}`, opens: true},
	{name: "marks that make everything local", rules: `table ip foreign {
		chain first { type filter hook prerouting priority -150; iifname %[1]s meta mark set 1 ct mark set 1; }
	}`, script: "ip rule add fwmark 1 lookup 100 pref 5; ip route add local 0.0.0.0/0 dev lo table 100"},
	{name: "marks that other software takes for permission", rules: `table ip foreign {
		chain first { type filter hook prerouting priority -150; meta mark set 0xffffffff ct mark set 0xffffffff; }
		chain entry { type filter hook input priority -300; meta mark 0xffffffff accept; }
	}`, opens: true},
	{name: "notrack", rules: `table ip foreign {
		chain first { type filter hook prerouting priority -301; notrack; }
		chain sent { type filter hook output priority -301; notrack; }
	}`},
	{name: "iptables is flushed", rules: `table ip filter { chain FORWARD { type filter hook forward priority 0; policy accept; }; }; table ip nat { chain POSTROUTING { type nat hook postrouting priority srcnat; }; }`,
		script: "nft flush table ip filter; nft flush table ip nat; nft delete table ip filter; nft delete table ip nat", opens: true},
	{name: "everything in the host is flushed", script: "nft flush ruleset", opens: true, bare: true},
	{name: "everything is flushed, and the policies accept", rules: `table inet foreign {
		chain entry { type filter hook input priority 0; policy accept; accept; }
		chain through { type filter hook forward priority 0; policy accept; accept; }
	}`, script: "nft delete table inet " + ownTable, opens: true, bare: true},
}

// ownTable stands for the node's table in the host.
const ownTable = "OWN"

// TestForeignRules: whatever other software does in the host, no sandbox reaches the
// host, its loopback, a sibling or an address that its policy does not name, and nobody
// reaches a sandbox. What it may reach it does again, once that software is gone.
func TestForeignRules(t *testing.T) {
	w := newWorld(t, unlimited)
	w.bridge()
	w.localnet(w.host)
	w.foreignRules(foreign, places{
		server: serverAddr, host: hostAddr, list: "203.0.113.0/25", self: func(s *sandbox) netip.Addr { return s.addr },
		forbidden: []string{"203.0.113.1:22", "127.0.0.1:40000", "169.254.2.1:22", "169.254.1.1:99", "203.0.113.130:80", "198.51.100.1:22"},
	})
}

// foreign6 is what it does about IPv6.
var foreign6 = []foreignSoftware{
	{name: "nothing", opens: true},
	{name: "a firewall that drops", rules: "table ip6 filter { chain FORWARD { type filter hook forward priority 0; policy drop; }; }"},
	{name: "a firewall that accepts", rules: "table ip6 filter { chain INPUT { type filter hook input priority -300; accept; }; chain FORWARD { type filter hook forward priority -300; accept; }; }", opens: true},
	{name: "DNAT of what a sandbox may reach to the host", rules: "table ip6 foreign { chain first { type nat hook prerouting priority dstnat; iifname %[1]s tcp dport 80 dnat to [2001:db8:113::1]:22; iifname %[1]s udp dport 9 dnat to [2001:db8:113::1]:22; }; }"},
	{name: "DNAT to a sibling", rules: "table ip6 foreign { chain first { type nat hook prerouting priority dstnat; iifname %[1]s tcp dport 80 dnat to [SIBLING]:8080; iifname %[1]s udp dport 9 dnat to [SIBLING]:8080; }; }"},
	{name: "REDIRECT", rules: "table ip6 foreign { chain first { type nat hook prerouting priority dstnat; tcp dport 80 redirect to :22; udp dport 9 redirect to :22; }; }"},
	{name: "DNAT of a published port to a sandbox", rules: "table ip6 foreign { chain first { type nat hook prerouting priority dstnat; iifname wan tcp dport 8080 dnat to [SELF]:8080; }; chain last { type nat hook postrouting priority 90; oifname %[1]s masquerade; }; }", opens: true},
	{name: "marks that make everything local", rules: "table ip6 foreign { chain first { type filter hook prerouting priority -150; iifname %[1]s meta mark set 1; }; }",
		script: "ip -6 rule add fwmark 1 lookup 100 pref 5; ip -6 route add local ::/0 dev lo table 100"},
	{name: "notrack", rules: "table ip6 foreign { chain first { type filter hook prerouting priority -301; notrack; }; chain sent { type filter hook output priority -301; notrack; }; }"},
	{name: "everything in the host is flushed", script: "nft flush ruleset", opens: true, bare: true},
}

// TestForeignRules6: the same by IPv6.
func TestForeignRules6(t *testing.T) {
	w := newWorld(t, unlimited)
	w.wire6()
	w.has6(w.sandbox("has6"))
	w.foreignRules(foreign6, places{
		server: serverAddr6, host: hostAddr6, list: "2001:db8:113::/80", self: func(s *sandbox) netip.Addr { return s.addr6 },
		forbidden: []string{"[2001:db8:113::1]:22", "[2001:db8:99::1]:22", "[fe80::1]:99", "[2001:db8:113:0:ffff::130]:80", "[::1]:22"},
	})
}

// places of one family.
type places struct {
	server, host netip.Addr
	list         string // with the server
	self         func(*sandbox) netip.Addr
	forbidden    []string
}

func (w *world) foreignRules(foreign []foreignSoftware, p places) {
	self, sibling := w.sandbox("self"), w.sandbox("sibling")
	w.must(self.start(allow(p.list)))
	w.must(sibling.start(nil))
	d := new(doors)
	d.open(w, w.host, "host", ":22", "127.0.0.1:40000")
	d.open(w, self.ns, "self", ":8080")
	d.open(w, sibling.ns, "sibling", ":8080")
	d.open(w, w.cfg.TransitName(), "transit", ":99")
	d.open(w, w.internet, "internet", ":80", ":22")
	wire := w.capture(w.internet, "eth0")
	words := strings.NewReplacer("%[1]s", w.cfg.HostLink(), "SELF", p.self(self).String(), "SIBLING", p.self(sibling).String(), ownTable, w.cfg.HostTable())
	for i, f := range foreign {
		w.t.Run(f.name, func(t *testing.T) {
			w := w.in(t)
			if f.rules != "" {
				w.nft(w.host, words.Replace(f.rules))
			}
			w.shell(words.Replace(f.script))
			if got := try(self.ns, p.server, 80) == "open"; got != f.opens {
				t.Errorf("the listed server is reached: %t, want %t", got, f.opens)
			}
			w.hostileTries(self, p, append(p.forbidden, netip.AddrPortFrom(p.self(sibling), 8080).String()), marker("rules", i))
			if f.bare {
				d.forget("internet tcp at " + netip.AddrPortFrom(p.server, 80).String() + " from " + strings.TrimSuffix(netip.AddrPortFrom(p.self(self), 1).String(), "1"))
			}
			w.shell("nft flush ruleset; for six in -4 -6; do ip $six rule del pref 5 2>/dev/null; ip $six route flush table 100 2>/dev/null; done; true")
			w.must(w.onHost(func() error { return transit.Ensure(t.Context(), &w.cfg) }))
			w.inject(self.ns, "eth0", self.honest(p.server, control("rules", i)).encode())
			if got := try(self.ns, p.server, 80); got != "open" || !wire.await(control("rules", i)) {
				t.Fatalf("once it is gone, the listed server is %s", got)
			}
			if wire.saw(marker("rules", i)) {
				t.Error("a packet to an address that is not listed left")
			}
		})
	}
	d.forget("host tcp at 127.0.0.1:40000 from 127.0.0.1:") // none but the next
	if try(w.internet, p.host, 22) != "open" || try(w.host, netip.MustParseAddr("127.0.0.1"), 40000) != "open" {
		w.t.Fatal("the listeners of the host are not there, so nothing is proven")
	}
	host, server := netip.AddrPortFrom(p.host, 22).String(), netip.AddrPortFrom(p.server, 80).String()
	for _, who := range d.by("") {
		_, from, _ := strings.Cut(who, " from ")
		source, err := netip.ParseAddrPort(from)
		w.must(err)
		sandboxes := p.self(self) == source.Addr() || p.self(sibling) == source.Addr()
		switch {
		case strings.HasPrefix(who, "internet tcp at "+server+" ") && source.Addr() == p.host:
		case strings.HasPrefix(who, "host tcp at "+host+" ") && !sandboxes && source.Addr() != p.host:
		case strings.HasPrefix(who, "host tcp at 127.0.0.1:40000 from 127.0.0.1:"):
		default:
			w.t.Errorf("reached: %s", who)
		}
	}
}

// hostileTries are connections and packets that must not arrive; the marker is in those
// that could be seen on the uplink.
func (w *world) hostileTries(self *sandbox, p places, forbidden []string, marker string) {
	w.t.Helper()
	var frames [][]byte
	for _, to := range forbidden {
		at := netip.MustParseAddrPort(to)
		for _, proto := range []byte{unix.IPPROTO_TCP, unix.IPPROTO_UDP} {
			f := self.honest(at.Addr(), marker)
			f.proto, f.port = proto, at.Port()
			frames = append(frames, f.encode())
		}
	}
	// What is listed, for a rule that sends it elsewhere.
	w.inject(self.ns, "eth0", append(frames, self.honest(p.server, "listed").encode())...)
	// From outside, from the host and from the internet: by the published port and by the
	// address. By TCP from inside, too, where a redirect's target would answer.
	var group errgroup.Group
	address, published := netip.AddrPortFrom(p.self(self), 8080).String(), netip.AddrPortFrom(p.host, 8080).String()
	for _, c := range []struct{ ns, to string }{
		{w.host, address}, {w.internet, address}, {w.internet, published}, {w.host, published}, {self.ns, forbidden[0]}, {self.ns, forbidden[4]}, {self.ns, forbidden[3]},
	} {
		group.Go(func() error {
			at := netip.MustParseAddrPort(c.to)
			if try(c.ns, at.Addr(), at.Port()) == "open" {
				return fmt.Errorf("%s is reached from %s", c.to, c.ns)
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		w.t.Error(err)
	}
}

// shell runs commands in the host.
func (w *world) shell(script string) {
	w.t.Helper()
	if script == "" {
		return
	}
	w.must(netns.Do(netns.Path(w.host), func() error {
		if out, err := exec.Command("sh", "-c", script).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", script, err, out)
		}
		return nil
	}))
}
