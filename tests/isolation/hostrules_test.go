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

// foreign is what other software does to the host's rules. %s is the node's link.
var foreign = []struct {
	name   string
	rules  string // nft's
	script string // commands in the host
	opens  bool   // the listed server is still reached
	bare   bool   // and with it the table that translates sources is gone
}{
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
	w := newWorld(t, "")
	w.bridge()
	self, sibling := w.sandbox("self"), w.sandbox("sibling")
	w.must(self.start(allow("203.0.113.0/25")))
	w.must(sibling.start(nil))
	d := new(doors)
	d.open(w, w.host, "host", ":22", "127.0.0.1:40000")
	d.open(w, self.ns, "self", ":8080")
	d.open(w, sibling.ns, "sibling", ":8080")
	d.open(w, w.cfg.TransitName(), "transit", ":99")
	d.open(w, w.internet, "internet", ":80", ":22")
	w.localnet(w.host)
	wire := w.capture(w.internet, "eth0")
	for i, f := range foreign {
		t.Run(f.name, func(t *testing.T) {
			w := w.in(t)
			words := strings.NewReplacer("%[1]s", w.cfg.HostLink(), "SELF", self.addr.String(), "SIBLING", sibling.addr.String(), ownTable, w.cfg.HostTable())
			if f.rules != "" {
				w.nft(w.host, words.Replace(f.rules))
			}
			w.shell(words.Replace(f.script))
			if got := try(self.ns, serverAddr, 80) == "open"; got != f.opens {
				t.Errorf("the listed server is reached: %t, want %t", got, f.opens)
			}
			w.hostileTries(self, sibling, marker("rules", i))
			if f.bare {
				d.forget("internet tcp at 203.0.113.2:80 from " + self.addr.String() + ":")
			}
			w.shell("nft flush ruleset; ip rule del pref 5 2>/dev/null; ip route flush table 100; true")
			w.must(w.onHost(func() error { return transit.Ensure(t.Context(), &w.cfg) }))
			w.inject(self.ns, "eth0", self.honest(serverAddr, control("rules", i)).encode())
			if got := try(self.ns, serverAddr, 80); got != "open" || !wire.await(control("rules", i)) {
				t.Fatalf("once it is gone, the listed server is %s", got)
			}
			if wire.saw(marker("rules", i)) {
				t.Error("a packet to an address that is not listed left")
			}
		})
	}
	if c := w.host; try(w.internet, hostAddr, 22) != "open" || try(c, netip.MustParseAddr("127.0.0.1"), 40000) != "open" {
		t.Fatal("the listeners of the host are not there, so nothing is proven")
	}
	for _, who := range d.by("") {
		allowed := strings.HasPrefix(who, "internet tcp at 203.0.113.2:80 from 203.0.113.1:") || strings.HasPrefix(who, "host tcp at 203.0.113.1:22 from 203.0.113.2:") || strings.HasPrefix(who, "host tcp at 127.0.0.1:40000 from 127.0.0.1:")
		if !allowed {
			t.Errorf("reached: %s", who)
		}
	}
}

// hostileTries are connections and packets that must not arrive; the marker is in those
// that could be seen on the uplink.
func (w *world) hostileTries(self, sibling *sandbox, marker string) {
	w.t.Helper()
	var frames [][]byte
	for _, to := range []string{"203.0.113.1:22", "127.0.0.1:40000", "169.254.2.1:22", "169.254.1.1:99", "203.0.113.130:80", "203.0.113.2:22", "198.51.100.1:22", sibling.addr.String() + ":8080"} {
		at := netip.MustParseAddrPort(to)
		for _, proto := range []byte{unix.IPPROTO_TCP, unix.IPPROTO_UDP} {
			f := self.honest(at.Addr(), marker)
			if at.Addr() == serverAddr {
				f.payload = "listed"
				if proto == unix.IPPROTO_UDP {
					continue
				}
			}
			f.proto, f.port = proto, at.Port()
			frames = append(frames, f.encode())
		}
	}
	w.inject(self.ns, "eth0", append(frames, self.honest(serverAddr, "listed").encode())...)
	// From outside, from the host and from the internet: by the published port and by the
	// address. By TCP from inside, too, where a redirect's target would answer.
	var group errgroup.Group
	for _, c := range []struct{ ns, to string }{
		{w.host, self.addr.String() + ":8080"}, {w.internet, self.addr.String() + ":8080"}, {w.internet, "203.0.113.1:8080"}, {w.host, "203.0.113.1:8080"},
		{self.ns, "203.0.113.1:22"}, {self.ns, "203.0.113.130:80"},
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
