package isolation

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"brig/internal/netns"
	"brig/internal/netpolicy"
	"brig/internal/transit"
)

// TestCheckMissesEverything: whatever one object of an attachment is removed or
// changed, CHECK fails and names it, and an ADD puts it right.
func TestCheckMissesEverything(t *testing.T) {
	w := newWorld(t, "")
	s := w.bare("s1")
	list := []string{"203.0.113.0/25"}
	policy, err := netpolicy.Compile(netpolicy.Spec{CIDRAllowlist: &list, DNS: "resolver"}, netpolicy.Ceiling{})
	w.must(err)
	conf := map[string]any{"runtimeConfig": map[string]any{"brig.network-policy": string(policy.Canonical())}}
	result := w.attach(s, conf)
	conf["prevResult"] = json.RawMessage(result)
	node, link, leases := w.cfg.TransitName(), s.link(), w.cfg.NetworkDir()+"/leases/"
	names := func() *strings.Replacer {
		return strings.NewReplacer("LINK", link, "ADDRESS", s.addr.String(), "HASH", policy.Hash(), "NODE", node, "SANDBOX", s.ns, "HOST", w.host,
			"LEASES/", leases, "UPLINK", w.cfg.HostLink(), "TABLE", w.cfg.HostTable())
	}
	in := func(ns, command string) string { return "ip netns exec " + ns + " " + command }
	for _, tc := range []struct{ what, damage, want string }{
		{"transit link", "ip -n NODE link del LINK", "link LINK"},
		{"alias", "ip -n NODE link set LINK alias other", "alias"},
		{"transit link down", "ip -n NODE link set LINK down", "link LINK: it is down"},
		{"transit MAC", "ip -n NODE link set LINK address 02:00:00:00:00:09", "MAC address"},
		{"transit route", "ip -n NODE route del ADDRESS/32", "lacks its route to ADDRESS/32"},
		{"transit neighbour", "ip -n NODE neigh del ADDRESS dev LINK", "lacks its permanent neighbour ADDRESS"},
		{"transit neighbour changed", "ip -n NODE neigh replace ADDRESS lladdr 02:00:00:00:00:09 nud permanent dev LINK", "lacks its permanent neighbour ADDRESS"},
		{"identity", in(node, `nft flush set inet brig bind4`), "bind4 of LINK"},
		{"egress entry", in(node, `nft delete element inet brig egress { "LINK" }`), "LINK"},
		{"ingress entry", in(node, `nft delete element inet brig ingress { "LINK" }`), "LINK"},
		{"DNS entry", in(node, `nft delete element inet brig ask { "LINK" }`), "LINK"},
		{"policy's chain out", in(node, `nft flush chain inet brig out_HASH`), "out_HASH"},
		{"policy's chain in", in(node, `nft flush chain inet brig in_HASH`), "in_HASH"},
		{"policy's chain widened", in(node, `nft insert rule inet brig out_HASH accept`), "out_HASH"},
		{"policy's set emptied", in(node, `nft flush set inet brig cidr4_HASH`), "cidr4_HASH"},
		{"policy's set widened", in(node, `nft add element inet brig cidr4_HASH { 198.51.100.7 }`), "cidr4_HASH"},
		{"base chain", in(node, `nft delete chain inet brig input`), "chain input"},
		{"base rule", in(node, `nft flush chain inet brig from_sandbox`), "chain from_sandbox"},
		{"base rule added", in(node, `nft insert rule inet brig from_sandbox accept`), "chain from_sandbox"},
		{"never-list", in(node, `nft delete element inet brig never4 { 10.0.0.0/8 }`), "never4"},
		{"record", "rm " + string(transit.Records(&w.cfg)) + "/LINK.json", "LINK has no identity"},
		{"all rules", in(node, `nft flush ruleset`), "is missing"},
		{"lease by link", "rm LEASES/LINK", "lease"},
		{"lease by address", "rm LEASES/ADDRESS", "address ADDRESS is not reserved"},
		{"sandbox's interface", "ip -n SANDBOX link del eth0", "link LINK"},
		{"sandbox's interface renamed", "ip -n SANDBOX link set eth0 name eth7", "interface eth0"},
		{"sandbox's interface down", "ip -n SANDBOX link set eth0 down", "interface eth0 of the sandbox: it is down"},
		{"sandbox's MAC", "ip -n SANDBOX link set eth0 address 02:00:00:00:00:09", "interface eth0 of the sandbox: its MAC address"},
		{"sandbox's address", "ip -n SANDBOX addr del ADDRESS/32 dev eth0", "lacks its address ADDRESS"},
		{"sandbox's default route", "ip -n SANDBOX route del default", "lacks its route to everywhere"},
		{"sandbox's route to the gateway", "ip -n SANDBOX route del 169.254.1.1", "lacks its route to 169.254.1.1/32"},
		{"sandbox's neighbour", "ip -n SANDBOX neigh del 169.254.1.1 dev eth0", "lacks its permanent neighbour 169.254.1.1"},
		{"host table", in(w.host, "nft delete table inet TABLE"), "table TABLE"},
		{"host rule", in(w.host, "nft flush chain inet TABLE forward"), "table TABLE"},
		{"host's route to the pool", "ip -n HOST route del 10.88.0.0/16", "no route to 10.88.0.0/16"},
		{"host's link", "ip -n HOST link del UPLINK", "link UPLINK"},
		{"host's link down", "ip -n HOST link set UPLINK down", "link UPLINK: is down"},
		{"host's link's address", "ip -n HOST addr flush dev UPLINK", "link UPLINK: has no route"},
		{"up0's address", "ip -n NODE addr flush dev up0", "link up0: has no route"},
		{"up0's route", "ip -n NODE route del default", "link up0: has no route"},
		{"gateway's address", "ip -n NODE addr del 169.254.1.1/32 dev lo", "lacks its route to ADDRESS/32"},
		{"forwarding of the node's link", in(w.host, "sysctl -qw net.ipv4.conf.UPLINK.forwarding=0"), "conf/UPLINK/forwarding"},
		{"forwarding of the uplink", in(w.host, "sysctl -qw net.ipv4.conf.wan.forwarding=0"), "conf/wan/forwarding"},
		{"forwarding of the node", in(node, "sysctl -qw net.ipv4.conf.all.forwarding=0"), "conf/all/forwarding"},
	} {
		damage, want := names().Replace(tc.damage), names().Replace(tc.want)
		if out, err := exec.CommandContext(t.Context(), "sh", "-c", strings.NewReplacer("{", "'{", "}", "}'").Replace(damage)).CombinedOutput(); err != nil {
			t.Fatalf("%s: %s: %v: %s", tc.what, damage, err, out)
		}
		if _, err := w.cni(t.Context(), "CHECK", s.id, netns.Path(s.ns), conf); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: CHECK: %v; want one that contains %q", tc.what, err, want)
		}
		if tc.what == "sandbox's interface renamed" {
			w.ip(s.ns, "link set eth7 name eth0")
		}
		if tc.what == "record" { // rules that no record explains stop the first ADD, and the second finds them gone
			_, _ = w.cni(t.Context(), "ADD", s.id, netns.Path(s.ns), nil)
		}
		again := map[string]any{"runtimeConfig": conf["runtimeConfig"]}
		w.attach(s, again)
		if _, err := w.cni(t.Context(), "CHECK", s.id, netns.Path(s.ns), conf); err != nil {
			t.Errorf("%s: CHECK after another ADD: %v", tc.what, err)
		}
	}
	// The lease by link that was removed left an address that nobody has.
	if _, err := w.cni(t.Context(), "GC", "", "", map[string]any{"cni.dev/valid-attachments": []any{map[string]any{"containerID": s.id, "ifname": "eth0"}}}); err != nil || len(w.leases()) != 2 {
		t.Errorf("after GC: leases %v, %v; want one, with two names", w.leases(), err)
	}
	// What a sentry does on its start: a packet socket, and the address is its own.
	fd := w.packetSocket(s.ns, "eth0")
	defer unix.Close(fd)
	w.ip(s.ns, "addr flush dev eth0")
	if _, err := w.cni(t.Context(), "CHECK", s.id, netns.Path(s.ns), conf); err != nil {
		t.Errorf("CHECK of a sandbox that runs: %v", err)
	}
}

// attach runs ADD and remembers the address.
func (w *world) attach(s *sandbox, conf map[string]any) []byte {
	w.t.Helper()
	out, err := w.cni(w.t.Context(), "ADD", s.id, netns.Path(s.ns), conf)
	w.must(err)
	s.learn(out)
	return out
}

func (s *sandbox) learn(result []byte) {
	s.w.t.Helper()
	var r struct {
		IPs []struct{ Address netip.Prefix }
	}
	s.w.must(json.Unmarshal(result, &r))
	if len(r.IPs) == 0 {
		s.w.t.Fatal(fmt.Errorf("a result without an address: %s", result))
	}
	s.addr = r.IPs[0].Address.Addr()
}
