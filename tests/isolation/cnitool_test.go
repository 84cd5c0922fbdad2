package isolation

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"brig/internal/netns"
	"brig/internal/require"
)

// cnitool is CNI's own reference runtime. It derives a container's id from the path of
// its namespace, and keeps what it was told under /var/lib/cni.
type cnitool struct {
	w       *world
	path    string // of the program
	network string
	confDir string
}

func newCNITool(w *world) *cnitool {
	w.t.Helper()
	path := filepath.Join(require.Runsc(w.t), "deps", "cnitool")
	if _, err := os.Stat(path); err != nil {
		w.t.Fatalf("%v: run `make deps`", err)
	}
	for _, dir := range []string{"/var/lib/cni", "/var/lib/cni/results"} {
		if _, err := os.Stat(dir); os.IsNotExist(err) {
			w.t.Cleanup(func() { _ = os.Remove(dir) }) // unless somebody else uses it by now
		}
	}
	// The network's name is this world's: cnitool's GC deletes all of that name.
	return &cnitool{w: w, path: path, network: strings.TrimSuffix(w.host, "-host"), confDir: w.t.TempDir()}
}

// list writes the network list.
func (c *cnitool) list(version string, plugins ...map[string]any) {
	c.w.t.Helper()
	for _, p := range plugins {
		if p["type"] == "brig-cni" {
			p["config"] = c.w.path
		}
	}
	data, err := json.Marshal(map[string]any{"cniVersion": version, "name": c.network, "plugins": plugins})
	c.w.must(err)
	c.w.must(os.WriteFile(filepath.Join(c.confDir, "10-brig.conflist"), data, 0o600))
}

// run one verb for a sandbox's namespace; env is added to what cnitool reads.
func (c *cnitool) run(verb string, s *sandbox, env ...string) (string, error) {
	cmd := exec.CommandContext(c.w.t.Context(), c.path, verb, c.network, netns.Path(s.ns))
	cmd.Env = append([]string{
		"PATH=" + os.Getenv("PATH"), "NETCONFPATH=" + c.confDir,
		"CNI_PATH=" + filepath.Dir(plugin) + ":" + filepath.Join(filepath.Dir(c.path), "cni"),
	}, env...)
	var out []byte
	err := c.w.onHost(func() (err error) { out, err = cmd.CombinedOutput(); return err })
	if err != nil {
		err = fmt.Errorf("cnitool %s: %w: %s", verb, err, out)
	}
	return string(out), err
}

func (c *cnitool) must(verb string, s *sandbox, env ...string) string {
	c.w.t.Helper()
	out, err := c.run(verb, s, env...)
	c.w.must(err)
	return out
}

// brigPlugin is the entry of a list, as deploy/ has it.
func brigPlugin() map[string]any {
	return map[string]any{"type": "brig-cni", "capabilities": map[string]bool{"brig.network-policy": true, "portMappings": true}}
}

// TestCNITool drives every verb that a version has.
func TestCNITool(t *testing.T) {
	w := newWorld(t, "")
	w.listen(w.internet, ":80")
	tool := newCNITool(w)
	caps, err := json.Marshal(w.restricted("203.0.113.0/25")["runtimeConfig"])
	w.must(err)
	for _, version := range []string{"0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"} {
		t.Run(version, func(t *testing.T) {
			tool.list(version, brigPlugin())
			s := w.bare("v" + strings.ReplaceAll(version, ".", ""))
			if out := tool.must("add", s, "CAP_ARGS="+string(caps)); !strings.Contains(out, `"cniVersion": "`+version+`"`) {
				t.Errorf("add: %s", out)
			}
			if got := try(s.ns, serverAddr, 80) + " " + try(s.ns, otherAddr, 80); got != "open refused" {
				t.Errorf("after add: %s", got)
			}
			if _, err := tool.run("check", s, "CAP_ARGS="+string(caps)); version < "0.4.0" != (err != nil) {
				t.Errorf("check: %v", err)
			}
			w.ip(s.ns, "route del default")
			if _, err := tool.run("check", s, "CAP_ARGS="+string(caps)); err == nil {
				t.Error("check without the default route found nothing")
			}
			tool.must("del", s)
			tool.must("del", s)
			w.nothingAttached()
			tool.must("status", s)
			tool.must("add", s)
			tool.must("gc", s)
			w.nothingAttached()
		})
	}
}

// TestCNIToolRefusals: what a list or a caller asks for and the plugin does not do.
func TestCNIToolRefusals(t *testing.T) {
	w := newWorld(t, "")
	tool := newCNITool(w)
	s := w.bare("s1")
	tool.list("1.1.0", brigPlugin())
	_, err := tool.run("add", s, `CAP_ARGS={"portMappings":[{"hostPort":8080,"containerPort":80,"protocol":"tcp"}]}`)
	if err == nil || !strings.Contains(err.Error(), "brig tunnel open") {
		t.Errorf("port mappings: %v", err)
	}
	// CNI_ARGS is split at semicolons: it carries no policy, whatever it says.
	tool.must("add", s, `CNI_ARGS=IgnoreUnknown=1;brig.network-policy={"egress":"open"}`)
	w.listen(w.internet, ":80")
	if got := try(s.ns, serverAddr, 80); got == "open" {
		t.Error("a policy came by CNI_ARGS")
	}
	tool.must("del", s)
	w.nothingAttached()
	if netns.Exists(w.cfg.TransitName()) {
		tool.must("status", s)
	}
	tool.list("1.1.0", map[string]any{"type": "ptp", "ipam": map[string]any{"type": "host-local", "subnet": "10.77.0.0/24", "dataDir": t.TempDir()}}, brigPlugin())
	if _, err := tool.run("add", s); err == nil || !strings.Contains(err.Error(), "cannot be chained") {
		t.Errorf("chained behind ptp: %v", err)
	}
	w.nothingAttached()
}

// hostLocal is the reference IPAM plugin over a range, as an entry's "ipam".
func hostLocal(t *testing.T, ranges ...string) map[string]any {
	sets := make([]any, len(ranges))
	for i, r := range ranges {
		sets[i] = []any{map[string]any{"subnet": r}}
	}
	return map[string]any{"type": "host-local", "ranges": sets, "dataDir": t.TempDir(), "routes": []any{map[string]any{"dst": "0.0.0.0/0"}}}
}

func withIPAM(ipam map[string]any) map[string]any {
	p := brigPlugin()
	p["ipam"] = ipam
	return p
}

// TestIPAM: addresses come from the IPAM plugin that the list names, in every verb, and
// only such as the node can police.
func TestIPAM(t *testing.T) {
	w := newWorld(t, "[network]\npool = \"10.88.0.0/16\"\n")
	tool := newCNITool(w)
	ipam := hostLocal(t, "10.88.0.0/16")
	reserved := func() (names []string) {
		entries, err := os.ReadDir(filepath.Join(ipam["dataDir"].(string), tool.network))
		w.must(err)
		for _, e := range entries {
			if _, err := netip.ParseAddr(e.Name()); err == nil {
				names = append(names, e.Name())
			}
		}
		return names
	}
	tool.list("1.1.0", withIPAM(ipam))
	a, b := w.bare("a"), w.bare("b")
	a.learn([]byte(tool.must("add", a)))
	b.learn([]byte(tool.must("add", b)))
	if a.addr == b.addr || len(reserved()) != 2 || !w.binds(a.addr) {
		t.Errorf("addresses %s and %s, reserved %v; or the rules know %s not", a.addr, b.addr, reserved(), a.addr)
	}
	tool.must("status", a)
	tool.must("check", a)
	a.track()
	tool.must("add", w.bare("c"))
	if w.remembered(a.addr) == 0 {
		t.Error("an add had a living sandbox's connections forgotten")
	}
	again := *a
	again.learn([]byte(tool.must("add", a)))
	if again.addr != a.addr || len(reserved()) != 3 {
		t.Errorf("the same add again: %s, was %s; reserved %v", again.addr, a.addr, reserved())
	}
	w.must(os.Remove(filepath.Join(ipam["dataDir"].(string), tool.network, a.addr.String())))
	if _, err := tool.run("check", a); err == nil || !strings.Contains(err.Error(), "host-local") {
		t.Errorf("check without the reservation: %v", err)
	}
	tool.must("del", a)
	tool.must("del", a)
	if got := reserved(); len(got) != 2 {
		t.Errorf("after del: reserved %v", got)
	}
	tool.must("gc", b)
	w.nothingAttached()
	if got := reserved(); len(got) != 0 {
		t.Errorf("after gc: reserved %v", got)
	}
	for n, tc := range []struct {
		name, want string
		ipam       map[string]any
	}{
		{"outside the pool", "set network.pool", hostLocal(t, "10.77.0.0/24")},
		{"the host's network", "set network.pool", hostLocal(t, "203.0.113.0/24")},
		{"two of one family", "one IPv4 address", hostLocal(t, "10.88.1.0/24", "10.88.2.0/24")},
		{"IPv6 alone", "one IPv4 address", hostLocal(t, "fd00:1::/64")},
		{"routes", "route to 198.51.100.0/24", func() map[string]any {
			i := hostLocal(t, "10.88.3.0/24")
			i["routes"] = []any{map[string]any{"dst": "198.51.100.0/24"}}
			return i
		}()},
		{"no such plugin", "no-such-ipam", map[string]any{"type": "no-such-ipam"}},
		{"a path", "is not a plugin's name", map[string]any{"type": "../host-local"}},
	} {
		tool.list("1.1.0", withIPAM(tc.ipam))
		s := w.bare(fmt.Sprint("x", n))
		if _, err := tool.run("add", s); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v; want an error that contains %q", tc.name, err, tc.want)
		}
		w.nothingAttached()
		if dir, ok := tc.ipam["dataDir"].(string); ok {
			left, err := filepath.Glob(filepath.Join(dir, tool.network, "[0-9f]*"))
			if err != nil || len(left) > 0 {
				t.Errorf("%s: left with the IPAM plugin: %v, %v", tc.name, left, err)
			}
		}
	}
	// An address that another plugin's list leased already is nobody else's.
	tool.list("1.1.0", withIPAM(hostLocal(t, "10.88.0.0/16")))
	tool.must("add", a)
	tool.list("1.1.0", withIPAM(hostLocal(t, "10.88.0.0/16"))) // forgot what it gave
	if _, err := tool.run("add", b); err == nil || !strings.Contains(err.Error(), "leased to another") {
		t.Errorf("one address twice: %v", err)
	}
	tool.must("gc", a)
	w.nothingAttached()
}

// binds tells whether the rules know a sandbox of that address.
func (w *world) binds(a netip.Addr) bool {
	for _, text := range w.bindings() {
		if strings.Contains(text, " "+a.String()+" ") {
			return true
		}
	}
	return false
}

// track lets the host remember a connection of the sandbox's address.
func (s *sandbox) track() {
	s.w.t.Helper()
	s.w.must(s.w.onHost(func() error {
		return netlink.ConntrackCreate(netlink.ConntrackTable, unix.AF_INET, &netlink.ConntrackFlow{
			FamilyType: unix.AF_INET, TimeOut: 600,
			Forward: netlink.IPTuple{SrcIP: s.addr.AsSlice(), DstIP: serverAddr.AsSlice(), SrcPort: 4000, DstPort: 80, Protocol: unix.IPPROTO_UDP},
			Reverse: netlink.IPTuple{SrcIP: serverAddr.AsSlice(), DstIP: hostAddr.AsSlice(), SrcPort: 80, DstPort: 4000, Protocol: unix.IPPROTO_UDP},
		})
	}))
}
