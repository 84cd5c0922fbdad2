package isolation

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"brig/internal/attachment"
	"brig/internal/netns"
	"brig/internal/netpolicy"

	"brig/internal/transit"
)

// bindings of the node, as "link" → "MAC address chain".
func (w *world) bindings() map[string]string {
	w.t.Helper()
	all := map[string]string{}
	live, err := transit.Rules(&w.cfg).Live()
	w.must(err)
	for _, l := range live {
		all[l.Link] = fmt.Sprint(l.MAC, " ", l.Addr, " ", l.Chain)
	}
	return all
}

// links that the transit namespace has for sandboxes.
func (w *world) links() []string {
	w.t.Helper()
	out, err := exec.Command("ip", "-n", w.cfg.TransitName(), "-j", "link", "show").Output()
	w.must(err)
	var all []struct{ IfName string }
	w.must(json.Unmarshal(out, &all))
	var names []string
	for _, l := range all {
		if strings.HasPrefix(l.IfName, attachment.LinkPrefix) {
			names = append(names, l.IfName)
		}
	}
	return names
}

func (w *world) leases() []string {
	entries, err := os.ReadDir(w.cfg.NetworkDir() + "/leases")
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		w.t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		if e.Name() != "cursor" && e.Name() != "used" {
			names = append(names, e.Name())
		}
	}
	return names
}

// nothing of any attachment is left. Dead links have a moment to go.
func (w *world) nothingAttached() {
	w.t.Helper()
	links := w.links()
	for end := time.Now().Add(3 * time.Second); len(links) > 0 && time.Now().Before(end); links = w.links() {
		time.Sleep(5 * time.Millisecond)
	}
	if b, a := w.bindings(), w.leases(); len(b)+len(links)+len(a) > 0 {
		w.t.Errorf("left: bindings %v, links %v, leases %v", b, links, a)
	}
}

func TestResult(t *testing.T) {
	w := newWorld(t, "")
	s := w.bare("s1")
	got, err := w.cni(t.Context(), "ADD", s.id, netns.Path(s.ns), nil)
	w.must(err)
	want := fmt.Sprintf(`{
    "cniVersion": "1.1.0",
    "dns": {
        "nameservers": [
            "169.254.1.1"
        ]
    },
    "interfaces": [
        {
            "mac": "02:00:a9:fe:01:01",
            "mtu": 1500,
            "name": %q,
            "sandbox": %q
        },
        {
            "mac": "02:01:0a:58:00:01",
            "mtu": 1500,
            "name": "eth0",
            "sandbox": %q
        }
    ],
    "ips": [
        {
            "address": "10.88.0.1/32",
            "gateway": "169.254.1.1",
            "interface": 1
        }
    ],
    "routes": [
        {
            "dst": "169.254.1.1/32",
            "scope": 253
        },
        {
            "dst": "0.0.0.0/0",
            "gw": "169.254.1.1"
        }
    ]
}`, s.link(), w.transit(), netns.Path(s.ns))
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	again, err := w.cni(t.Context(), "ADD", s.id, netns.Path(s.ns), nil)
	if err != nil || string(again) != string(got) {
		t.Errorf("the same ADD again: %v\n%s", err, again)
	}
	if _, err := w.cni(t.Context(), "CHECK", s.id, netns.Path(s.ns), map[string]any{"prevResult": json.RawMessage(got)}); err != nil {
		t.Errorf("CHECK: %v", err)
	}
	w.ip(w.cfg.TransitName(), "route flush dev "+s.link())
	if _, err := w.cni(t.Context(), "CHECK", s.id, netns.Path(s.ns), map[string]any{"prevResult": json.RawMessage(got)}); err == nil || !strings.Contains(err.Error(), "lacks its route") {
		t.Errorf("CHECK without the route: %v", err)
	}
	w.delete(s)
}

// TestResultOfBothFamilies on a host that has IPv6: the sandbox gets an address of each
// family, reaches what its policy names by both, and loses both.
func TestResultOfBothFamilies(t *testing.T) {
	w := newWorld(t, "[network]\npool6 = \"fd12:3456:789a::/64\"\n")
	w.ip(w.host, "addr add 2600:1::1/64 dev wan nodad")
	w.ip(w.host, "route add default via 2600:1::2 dev wan")
	w.ip(w.internet, "addr add 2600:1::2/64 dev eth0 nodad")
	s := w.bare("s1")
	conf := w.restricted("203.0.113.0/25", "2600:1::/64")
	out := w.attach(s, conf)
	var got struct {
		IPs    []struct{ Address, Gateway string }
		Routes []struct{ Dst, GW string }
	}
	w.must(json.Unmarshal(out, &got))
	want := "{[{10.88.0.1/32 169.254.1.1} {fd12:3456:789a::1/128 fe80::1}] [{169.254.1.1/32 } {0.0.0.0/0 169.254.1.1} {fe80::1/128 } {::/0 fe80::1}]}"
	if fmt.Sprint(got) != want {
		t.Errorf("result %v\nwant %s", got, want)
	}
	conf["prevResult"] = json.RawMessage(out)
	check := func() error {
		_, err := w.cni(t.Context(), "CHECK", s.id, netns.Path(s.ns), conf)
		return err
	}
	w.must(check())
	wire := w.capture(w.internet, "eth0")
	send := func(to, marker string) {
		w.must(s.do(func() error {
			conn, err := net.Dial("udp6", "["+to+"]:9")
			if err != nil {
				return err
			}
			defer conn.Close()
			_, err = io.WriteString(conn, marker)
			return err
		}))
	}
	send("2600:1::2", "named-by-the-policy")
	send("2600:2::2", "not-named-by-the-policy")
	send("2600:1::1", "the-host-itself")
	if !wire.await("named-by-the-policy") || wire.saw("not-named-by-the-policy") || wire.saw("the-host-itself") {
		t.Errorf("named: %t, others: %t %t", wire.saw("named-by-the-policy"), wire.saw("not-named-by-the-policy"), wire.saw("the-host-itself"))
	}
	for _, damage := range []struct{ ns, args, want string }{
		{w.cfg.TransitName(), "route del fd12:3456:789a::1/128 dev " + s.link(), "lacks its route to fd12:3456:789a::1/128"},
		{w.cfg.TransitName(), "neigh del fd12:3456:789a::1 dev " + s.link(), "lacks its permanent neighbour fd12:3456:789a::1"},
		{s.ns, "addr del fd12:3456:789a::1/128 dev eth0", "lacks its address fd12:3456:789a::1"},
		{s.ns, "-6 route del default", "lacks its route to everywhere"},
		{s.ns, "neigh del fe80::1 dev eth0", "lacks its permanent neighbour fe80::1"},
	} {
		w.ip(damage.ns, damage.args)
		if err := check(); err == nil || !strings.Contains(err.Error(), damage.want) {
			t.Errorf("%s: CHECK: %v; want one that contains %q", damage.args, err, damage.want)
		}
		w.must(os.WriteFile(w.cfg.NetworkDir()+"/leases/cursor", []byte("10.88.0.0"), 0o600)) // the same addresses again
		w.attach(s, map[string]any{"runtimeConfig": conf["runtimeConfig"]})
		w.must(check())
	}
	w.delete(s)
}

// delete does it twice, and once without anything to go by.
func (w *world) delete(s *sandbox) {
	w.t.Helper()
	for _, ns := range []string{netns.Path(s.ns), netns.Path(s.ns), "", "/run/netns/gone"} {
		if out, err := w.cni(w.t.Context(), "DEL", s.id, ns, nil); err != nil || len(out) > 0 {
			w.t.Errorf("DEL with netns %q: %v %s", ns, err, out)
		}
	}
	w.nothingAttached()
}

func TestEveryVersion(t *testing.T) {
	w := newWorld(t, "")
	for _, version := range []string{"0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"} {
		s := w.bare("v" + strings.ReplaceAll(version, ".", ""))
		conf := map[string]any{"cniVersion": version}
		out, err := w.cni(t.Context(), "ADD", s.id, netns.Path(s.ns), conf)
		var result struct{ CNIVersion string }
		if err != nil || json.Unmarshal(out, &result) != nil || result.CNIVersion != version {
			t.Errorf("ADD of %s: %v\n%s", version, err, out)
		}
		if _, err := w.cni(t.Context(), "DEL", s.id, netns.Path(s.ns), conf); err != nil {
			t.Errorf("DEL of %s: %v", version, err)
		}
	}
	w.nothingAttached()
	out, err := w.cni(t.Context(), "VERSION", "", "", nil)
	if err != nil || !strings.Contains(string(out), `"0.1.0"`) || !strings.Contains(string(out), `"1.1.0"`) {
		t.Errorf("VERSION: %v\n%s", err, out)
	}
}

func TestAddRefuses(t *testing.T) {
	w := newWorld(t, "")
	s := w.bare("s1")
	for _, tc := range []struct {
		name string
		conf map[string]any
		want string
	}{
		{"ports", map[string]any{"runtimeConfig": map[string]any{"portMappings": []any{map[string]any{"hostPort": 80, "containerPort": 80}}}}, "brig tunnel"},
		{"bandwidth", map[string]any{"runtimeConfig": map[string]any{"bandwidth": map[string]any{"ingressRate": 1}}}, "does not support the capability"},
		{"chained", map[string]any{"prevResult": map[string]any{"cniVersion": "1.1.0"}}, "cannot be chained"},
		{"unknown key", map[string]any{"bridge": "cni0"}, "unknown field"},
		{"no configuration", map[string]any{"config": "/nowhere.toml"}, "/nowhere.toml"},
		{"a policy that is none", map[string]any{"runtimeConfig": map[string]any{"brig.network-policy": "{}"}}, "brig.network-policy"},
		{"a policy above the ceiling", map[string]any{"runtimeConfig": map[string]any{"brig.network-policy": `{"egress":"list","ranges":["10.0.0.0-10.0.0.255"]}`}}, "allow_private"},
	} {
		if _, err := w.cni(t.Context(), "ADD", s.id, netns.Path(s.ns), tc.conf); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: error %v, want one that contains %q", tc.name, err, tc.want)
		}
	}
	if netns.Exists(w.cfg.TransitName()) {
		t.Error("a refused ADD made the node's network")
	}
}

// TestFailedAddLeavesNothing: the sandbox has an interface of that name already.
func TestFailedAddLeavesNothing(t *testing.T) {
	w := newWorld(t, "")
	s := w.bare("s1")
	w.ip(s.ns, "link add eth0 type veth peer name other")
	if _, err := w.cni(t.Context(), "ADD", s.id, netns.Path(s.ns), nil); err == nil || !strings.Contains(err.Error(), "has an interface eth0 already") {
		t.Errorf("error %v", err)
	}
	w.nothingAttached()
}

// TestPolicyByRuntimeConfig: what brigd does, as a string and as an object.
func TestPolicyByRuntimeConfig(t *testing.T) {
	w := newWorld(t, "")
	w.listen(w.internet, ":80")
	list := []string{"203.0.113.0/25"}
	policy, err := netpolicy.Compile(netpolicy.Spec{CIDRAllowlist: &list}, netpolicy.Ceiling{})
	w.must(err)
	for name, value := range map[string]any{"text": string(policy.Canonical()), "object": json.RawMessage(policy.Canonical())} {
		s := w.bare(name)
		conf := map[string]any{"runtimeConfig": map[string]any{"brig.network-policy": value}}
		_, err := w.cni(t.Context(), "ADD", s.id, netns.Path(s.ns), conf)
		w.must(err)
		if got := try(s.ns, serverAddr, 80) + " " + try(s.ns, otherAddr, 80); got != "open refused" {
			t.Errorf("%s: %s", name, got)
		}
		w.delete(s)
	}
	if chains := chainsOf(t, w); len(chains) > 0 {
		t.Errorf("policies that nobody has are left: %v", chains)
	}
}

func TestPoolExhausted(t *testing.T) {
	w := newWorld(t, "[network]\npool = \"10.88.0.0/28\"\n")
	var all []*sandbox
	for i := range 14 {
		all = append(all, w.sandbox(fmt.Sprint("s", i)))
	}
	extra := w.bare("extra")
	for _, command := range []struct{ what, want string }{{"ADD", `"code": 11`}, {"STATUS", `"code": 50`}} {
		_, err := w.cni(t.Context(), command.what, extra.id, netns.Path(extra.ns), nil)
		if err == nil || !strings.Contains(err.Error(), "no free address in 10.88.0.0/28: all 14 are leased") || !strings.Contains(err.Error(), command.want) {
			t.Errorf("%s: %v", command.what, err)
		}
	}
	if _, err := w.cni(t.Context(), "DEL", all[3].id, "", nil); err != nil {
		t.Fatal(err)
	}
	if _, err := w.cni(t.Context(), "ADD", extra.id, netns.Path(extra.ns), nil); err != nil {
		t.Error(err)
	}
}

// TestStatusNamesTheObstacle: what else on the host drops what the node lets through.
func TestStatusNamesTheObstacle(t *testing.T) {
	w := newWorld(t, "")
	link := w.cfg.HostLink()
	nft := func(text string) {
		t.Helper()
		w.must(w.onHost(func() error {
			cmd := exec.CommandContext(t.Context(), "nft", "-f", "-")
			cmd.Stdin = strings.NewReader(text)
			out, err := cmd.CombinedOutput()
			if err != nil {
				return fmt.Errorf("%w: %s", err, out)
			}
			return nil
		}))
	}
	for _, tc := range []struct{ name, rules, remedy, cured, table string }{
		{
			"docker", `table ip filter { chain DOCKER-USER { }; chain FORWARD { type filter hook forward priority 0; policy drop; jump DOCKER-USER; }; }`,
			"iptables -I DOCKER-USER -i " + link, `insert rule ip filter DOCKER-USER iifname "` + link + `" accept`, "ip filter",
		},
		{
			"firewalld", `table inet firewalld { chain filter_FORWARD { type filter hook forward priority 10; policy accept; ct state established accept; reject; }; }`,
			"firewall-cmd --permanent --zone=trusted --add-interface=" + link, `insert rule inet firewalld filter_FORWARD iifname "` + link + `" accept`, "inet firewalld",
		},
		{
			"the operator's own", `table inet mine { chain through { type filter hook forward priority 0; policy drop; }; }`,
			`insert rule inet mine through iifname "` + link, `insert rule inet mine through iifname "` + link + `" accept`, "inet mine",
		},
		{"other hooks", `table inet mine { chain in { type filter hook input priority 0; policy drop; }; }`, "", "", "inet mine"},
	} {
		nft(tc.rules)
		for _, attached := range []bool{false, true} {
			_, err := w.cni(t.Context(), "STATUS", "", "", nil)
			if tc.remedy == "" && err != nil || tc.remedy != "" && (err == nil || !strings.Contains(err.Error(), `"code": 51`) || !strings.Contains(unquoted(err), tc.remedy)) {
				t.Errorf("%s, network made %t: STATUS: %v; want code 51 and %q", tc.name, attached, err, tc.remedy)
			}
			if !attached {
				w.delete(w.sandbox("s" + tc.name[:1]))
			}
		}
		nft(tc.cured)
		if _, err := w.cni(t.Context(), "STATUS", "", "", nil); err != nil {
			t.Errorf("%s, cured: STATUS: %v", tc.name, err)
		}
		nft("delete table " + tc.table)
	}
}

// unquoted is an error's text without the quotes that JSON adds.
func unquoted(err error) string {
	return strings.NewReplacer(`\"`, `"`, `\u0026`, "&").Replace(err.Error())
}

// TestReusedAddressKnowsNothing: no connection of the former owner is left in the
// node's or the host's table.
func TestReusedAddressKnowsNothing(t *testing.T) {
	w := newWorld(t, "")
	w.listen(w.internet, ":80")
	s := w.sandbox("s1")
	w.must(s.start(nil))
	if got := try(s.ns, serverAddr, 80); got != "open" {
		t.Fatal(got)
	}
	tracked := func() int {
		n := 0
		for _, ns := range []string{w.host, w.cfg.TransitName()} {
			w.must(netns.Do(netns.Path(ns), func() error {
				data, err := os.ReadFile("/proc/thread-self/net/nf_conntrack")
				n += strings.Count(string(data), "src="+s.addr.String())
				return err
			}))
		}
		return n
	}
	if tracked() != 2 {
		t.Skipf("the kernel shows %d tracked connections in /proc, expected 2", tracked())
	}
	w.delete(s)
	if n := tracked(); n != 0 {
		t.Errorf("%d connections of the freed address are remembered", n)
	}
}

func TestGC(t *testing.T) {
	w := newWorld(t, "")
	a, b, c := w.sandbox("a"), w.sandbox("b"), w.sandbox("c")
	w.must(netns.Delete(c.ns)) // its veth lives while its process does
	w.ip(w.cfg.TransitName(), "link add brg0123456789ab type veth peer name orphan")
	_, err := w.cni(t.Context(), "GC", "", "", map[string]any{"cni.dev/valid-attachments": []any{map[string]any{"containerID": b.id, "ifname": "eth0"}}})
	w.must(err)
	if got := slices.Sorted(maps.Keys(w.bindings())); !slices.Equal(got, []string{b.link()}) || !slices.Equal(w.links(), got) {
		t.Errorf("left: bindings %v, links %v; want only %s", got, w.links(), b.link())
	}
	_, err = w.cni(t.Context(), "GC", "", "", map[string]any{"name": "other"})
	w.must(err)
	if len(w.links()) != 1 {
		t.Error("GC of another network removed an attachment of this one")
	}
	w.delete(b)
	w.delete(a)
}

// TestReaperKilled: the next ADD has the links removed that a killed reaper left.
func TestReaperKilled(t *testing.T) {
	w := newWorld(t, "")
	w.sandbox("first")
	w.ip(w.cfg.TransitName(), "link add brg0123456789ab group 1651665255 type veth peer name orphan")
	lock := w.cfg.NetworkDir() + "/reaper.lock"
	w.must(os.WriteFile(lock, nil, 0o600))
	w.sandbox("second")
	for end := time.Now().Add(3 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		_, err := os.Stat(lock)
		if len(w.links()) == 2 && errors.Is(err, os.ErrNotExist) {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("links %v, lock: %v", w.links(), err)
		}
	}
}

// TestDeletedTogether: many DELs leave their links to one reaper, addresses and names can
// be had again at once, and a sandbox that lives is not touched.
func TestDeletedTogether(t *testing.T) {
	w := newWorld(t, "")
	w.listen(w.internet, ":80")
	lives := w.sandbox("lives")
	w.must(lives.start(nil))
	var all []*sandbox
	for i := range 12 {
		all = append(all, w.sandbox(fmt.Sprint("d", i)))
	}
	for _, s := range all {
		_, err := w.cni(t.Context(), "DEL", s.id, netns.Path(s.ns), nil)
		w.must(err)
	}
	if len(w.leases()) != 2 || len(w.bindings()) != 1 {
		t.Errorf("after the last DEL: leases %v, bindings %v; want those of one", w.leases(), w.bindings())
	}
	// The same id in the same namespace, while the dead link may still be there.
	again := all[len(all)-1]
	w.attach(again, nil)
	w.must(again.start(nil))
	if got := try(again.ns, serverAddr, 80) + " " + try(lives.ns, serverAddr, 80); got != "open open" {
		t.Errorf("attached again, and another: %s", got)
	}
	for end := time.Now().Add(3 * time.Second); len(w.links()) != 2; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("links %v; want two", w.links())
		}
	}
}

// TestKilledPlugin: whenever the plugin is killed, no packet passes, a second ADD
// works, and DEL or GC leaves nothing.
func TestKilledPlugin(t *testing.T) {
	w := newWorld(t, "")
	first := w.sandbox("first") // the node's own network is not what is killed here
	w.delete(first)
	w.listen(w.internet, ":80")
	began := time.Now()
	whole := w.sandbox("whole")
	takes := time.Since(began)
	w.delete(whole)
	const points = 16
	stages := map[string]int{}
	for i := range points {
		s := w.bare(fmt.Sprint("k", i))
		w.killedAdd(s, takes*time.Duration(i)/points)
		stages[fmt.Sprintf("%d leases, %d links, %d bindings", len(w.leases()), len(w.links()), len(w.bindings()))]++
		if got := try(s.ns, serverAddr, 80); got == "open" {
			t.Errorf("killed at point %d: a packet left", i)
		}
		if i%3 == 0 {
			_, err := w.cni(t.Context(), "ADD", s.id, netns.Path(s.ns), nil)
			w.must(err)
			w.must(s.start(nil))
			if got := try(s.ns, serverAddr, 80); got != "open" {
				t.Errorf("killed at point %d, added again: %s", i, got)
			}
		}
		if i%2 == 0 {
			w.delete(s)
		} else {
			_, err := w.cni(t.Context(), "GC", "", "", nil)
			w.must(err)
			w.nothingAttached()
		}
		s.kill()
	}
	t.Logf("an ADD takes %v; killed at %v", takes, stages)
}

// TestKilledFirst: the one that makes the node's network is killed.
func TestKilledFirst(t *testing.T) {
	w := newWorld(t, "")
	w.listen(w.internet, ":80")
	for i := range 12 {
		s := w.bare(fmt.Sprint("k", i))
		w.killedAdd(s, time.Duration(i)*4*time.Millisecond)
		if got := try(s.ns, serverAddr, 80); got == "open" {
			t.Errorf("killed at point %d: a packet left", i)
		}
		_, err := w.cni(t.Context(), "ADD", s.id, netns.Path(s.ns), nil)
		w.must(err)
		w.must(s.start(allow("203.0.113.0/25")))
		if got := try(s.ns, serverAddr, 80) + " " + try(s.ns, otherAddr, 80) + " " + try(s.ns, hostAddr, 22); got != "open refused refused" {
			t.Errorf("killed at point %d, made again: %s", i, got)
		}
		s.kill()
		w.must(w.onHost(func() error { return transit.Remove(t.Context(), &w.cfg) }))
		w.leftovers()
	}
}

// killedAdd kills the plugin after a while. Children that it started, nft among
// them, end by themselves: they are waited for.
func (w *world) killedAdd(s *sandbox, after time.Duration) {
	w.t.Helper()
	input := fmt.Sprintf(`{"cniVersion":"1.1.0","name":"brig","type":"brig-cni","config":%q}`, w.path)
	cmd := exec.Command(plugin)
	cmd.Stdin = strings.NewReader(input)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "CNI_COMMAND=ADD", "CNI_CONTAINERID=" + s.id, "CNI_NETNS=" + netns.Path(s.ns), "CNI_IFNAME=eth0", "CNI_PATH=/"}
	w.must(w.onHost(cmd.Start))
	time.Sleep(after)
	end(cmd)
	time.Sleep(20 * time.Millisecond)
}
