package transit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"brig/internal/config"
	"brig/internal/netns"
	"brig/internal/netpolicy/nft"
	"brig/internal/require"
)

// inHost runs fn in a throwaway namespace that stands for the host: with a default
// route over a link named wan, and forwarding off.
func inHost(t *testing.T, fn func(t *testing.T)) {
	t.Helper()
	require.Net(t)
	const name = "brigtest-host"
	if err := netns.Create(name); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := netns.Delete(name); err != nil {
			t.Error(err)
		}
	}()
	err := netns.Do(netns.Path(name), func() error {
		for _, line := range []string{
			"ip link set lo up", "ip link add wan type veth peer name far", "ip link set wan mtu 1400 up", "ip link set far up",
			"ip addr add 203.0.113.1/24 dev wan", "ip route add default via 203.0.113.2", "ip route add 10.88.0.0/16 via 203.0.113.2",
		} {
			if out, err := exec.Command("ip", strings.Fields(line)[1:]...).CombinedOutput(); err != nil {
				return errors.New(line + ": " + string(out))
			}
		}
		for _, link := range []string{"wan", "all", "default"} {
			if err := forwarding(link, "0").write(); err != nil {
				return err
			}
		}
		fn(t)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// removed is deferred: the test's context has ended by then.
func removed(t *testing.T, cfg *config.Config) {
	if err := Remove(context.Background(), cfg); err != nil {
		t.Error(err)
	}
}

// testNode is a node with directories of its own; its name must be unique.
func testNode(t *testing.T, name string) *config.Config {
	t.Helper()
	cfg := config.Defaults()
	cfg.Node, cfg.RunDir, cfg.StateDir = name, "/run/brig-"+name, t.TempDir()
	t.Cleanup(func() { os.RemoveAll(cfg.RunDir) })
	return &cfg
}

func identify(t *testing.T, cfg *config.Config, b nft.Binding) error {
	t.Helper()
	return With(t.Context(), cfg, func(_ context.Context, n Node) error { return n.Identify(b) })
}

func command(t *testing.T, argv ...string) string {
	t.Helper()
	out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput()
	if err != nil {
		t.Errorf("%v: %v: %s", argv, err, out)
	}
	return string(out)
}

func ensured(t *testing.T, cfg *config.Config) Node {
	t.Helper()
	var node Node
	if err := With(t.Context(), cfg, func(_ context.Context, n Node) error { node = n; return nil }); err != nil {
		t.Fatal(err)
	}
	return node
}

// hostState is what a node may change, without what links do by themselves for a while.
const hostState = `{ ip link show; ip addr show; } | sed 's/<.*>//; s/ tentative//; s/ state [A-Z]*//'
ip route show; nft list tables; cat /proc/sys/net/ipv4/conf/*/forwarding /proc/sys/net/ipv6/conf/*/forwarding`

func TestEnsureAndRemove(t *testing.T) {
	inHost(t, func(t *testing.T) {
		cfg := testNode(t, "tst1")
		before := command(t, "sh", "-c", hostState)
		first := ensured(t, cfg)
		if first.MTU != 1400 || first.Pool.String() != "10.89.0.0/16" {
			t.Errorf("MTU %d, pool %s; want the uplink's 1400 and the first free 10.89.0.0/16", first.MTU, first.Pool)
		}
		if again := ensured(t, cfg); again.Pool != first.Pool || again.MTU != first.MTU || again.Repaired {
			t.Errorf("the second time it is %+v, not %+v", again, first)
		}
		if got := command(t, "cat", "/proc/sys/net/ipv4/conf/wan/forwarding", "/proc/sys/net/ipv4/conf/all/forwarding"); got != "1\n0\n" {
			t.Errorf("forwarding of wan and all is %q, want it on for wan alone", got)
		}
		for range 2 {
			if err := Remove(t.Context(), cfg); err != nil {
				t.Fatal(err)
			}
		}
		if after := command(t, "sh", "-c", hostState); after != before {
			t.Errorf("before:\n%s\nafter:\n%s", before, after)
		}
		if netns.Exists(cfg.TransitName()) {
			t.Error("the namespace is still there")
		}
	})
}

// TestRepair breaks one thing at a time, as a killed process or somebody else's tool
// would.
func TestRepair(t *testing.T) {
	inHost(t, func(t *testing.T) {
		cfg := testNode(t, "tst2")
		ensured(t, cfg)
		defer removed(t, cfg)
		link := nft.Binding{Link: "brg000000000001", MAC: "02:00:00:00:00:01", Addr: netip.MustParseAddr("10.89.0.2")}
		if err := identify(t, cfg, link); err != nil {
			t.Fatal(err)
		}
		for name, damage := range map[string][]string{
			"the host's rules are flushed": {"nft", "flush", "ruleset"},
			"the host's link is gone":      {"ip", "link", "del", cfg.HostLink()},
			"the host's link is down":      {"ip", "link", "set", cfg.HostLink(), "down"},
			"a new address of the node":    {"ip", "addr", "add", "203.0.113.77/24", "dev", "wan"},
			"up0 lost its address":         {"ip", "-n", cfg.TransitName(), "addr", "flush", "dev", UpLink},
		} {
			command(t, damage...)
			node := ensured(t, cfg)
			if _, err := netlink.LinkByName(cfg.HostLink()); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if err := node.host.Check(); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if out := command(t, "ip", "-n", cfg.TransitName(), "route", "show", "default"); !strings.Contains(out, "via 169.254.2.1 dev up0") {
				t.Errorf("%s: default route %q", name, out)
			}
			if err := node.Verify(link.Link); err != nil {
				t.Errorf("%s: repairing it lost the sandboxes' bindings: %v", name, err)
			}
		}
		want := "[127.0.0.1 127.255.255.255 169.254.2.1 169.254.2.2 169.254.2.3 203.0.113.1 203.0.113.77 203.0.113.255]"
		if got := fmt.Sprint(ensured(t, cfg).base.Node); got != want {
			t.Errorf("node4 is %s, want %s", got, want)
		}
	})
}

// TestConfigurationChanges: the operator's ranges follow the configuration without
// touching a sandbox's binding.
func TestConfigurationChanges(t *testing.T) {
	inHost(t, func(t *testing.T) {
		cfg := testNode(t, "tst6")
		defer removed(t, cfg)
		ensured(t, cfg)
		if err := identify(t, cfg, nft.Binding{Link: "brg000000000001", MAC: "02:00:00:00:00:01", Addr: netip.MustParseAddr("10.89.0.1")}); err != nil {
			t.Fatal(err)
		}
		for _, private := range [][]string{{"10.20.0.0/16", "10.21.0.0/16"}, {"10.20.0.0/16"}, nil} {
			cfg.Network.AllowPrivate = private
			node := ensured(t, cfg)
			want, err := cfg.Network.PrivateRanges()
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(node.base.Private, want) || node.Verify("brg000000000001") != nil || node.Repaired {
				t.Errorf("allow_private %v is not in the rules, or the binding is gone: %v", private, node.Verify("brg000000000001"))
			}
		}
	})
}

func TestTwoNodesShareAHost(t *testing.T) {
	inHost(t, func(t *testing.T) {
		one, two := testNode(t, "tst3"), testNode(t, "tst4")
		a, b := ensured(t, one), ensured(t, two)
		if a.Pool.Overlaps(b.Pool) {
			t.Errorf("both have %s", a.Pool)
		}
		if err := Remove(t.Context(), one); err != nil {
			t.Fatal(err)
		}
		if got := command(t, "cat", "/proc/sys/net/ipv4/conf/wan/forwarding"); got != "1\n" {
			t.Error("removing one node switched forwarding off under the other")
		}
		if again := ensured(t, two); again.Pool != b.Pool || again.MTU != b.MTU {
			t.Errorf("%+v became %+v", b, again)
		}
		if err := Remove(t.Context(), two); err != nil {
			t.Fatal(err)
		}
		if got := command(t, "cat", "/proc/sys/net/ipv4/conf/wan/forwarding"); got != "0\n" {
			t.Error("the last node left forwarding on")
		}
	})
}

func TestDialAndListen(t *testing.T) {
	inHost(t, func(t *testing.T) {
		cfg := testNode(t, "tst5")
		ensured(t, cfg)
		defer removed(t, cfg)
		at := netip.MustParseAddrPort("169.254.1.1:5353")
		l, err := Listen(t.Context(), cfg, at)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		go func() {
			if c, err := l.Accept(); err == nil {
				_, _ = io.WriteString(c, "hi") // the reader notices
				c.Close()
			}
		}()
		c, err := Dial(t.Context(), cfg, at)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if got, err := io.ReadAll(c); err != nil || string(got) != "hi" {
			t.Errorf("read %q, %v", got, err)
		}
		if c, err := net.DialTimeout("tcp", at.String(), 200*time.Millisecond); err == nil {
			c.Close()
			t.Error("the listener can be reached from the host")
		}
		p, err := ListenPacket(t.Context(), cfg, at)
		if err != nil {
			t.Fatal(err)
		}
		p.Close()
	})
}

// A sandbox that does not answer costs no thread: a process may have ten thousand.
func TestDialHoldsNoThread(t *testing.T) {
	inHost(t, func(t *testing.T) {
		cfg := testNode(t, "tst6")
		ensured(t, cfg)
		defer removed(t, cfg)
		const dials = 100
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		before := threads(t)
		done := make(chan error)
		for range dials {
			go func() {
				c, err := Dial(ctx, cfg, netip.MustParseAddrPort("203.0.113.2:80")) // where nobody answers
				if err == nil {
					c.Close()
				}
				done <- err
			}()
		}
		time.Sleep(time.Second)
		if now := threads(t); now > before+dials/4 {
			t.Errorf("%d threads before %d dials, %d during them", before, dials, now)
		}
		for range dials {
			if err := <-done; !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%v; want the context's end", err)
			}
		}
	})
}

func threads(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

func TestPoolThatIsTaken(t *testing.T) {
	inHost(t, func(t *testing.T) {
		cfg := testNode(t, "tst8")
		cfg.Network.Pool = "10.88.0.0/16"
		err := Ensure(t.Context(), cfg)
		if err == nil || !strings.Contains(err.Error(), "network.pool 10.88.0.0/16 overlaps") {
			t.Errorf("error %v", err)
		}
		if netns.Exists(cfg.TransitName()) {
			t.Error("the refusal left a namespace")
		}
	})
}

func TestADamagedRecordIsNamed(t *testing.T) {
	inHost(t, func(t *testing.T) {
		cfg := testNode(t, "tst7")
		if err := os.MkdirAll(cfg.NetworkDir(), 0o700); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(cfg.NetworkDir(), "choice.json")
		if err := os.WriteFile(path, []byte(`{"pool":`), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := Ensure(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("error %v", err)
		}
	})
}

func TestTheLockWaitsWithItsContext(t *testing.T) {
	cfg := &config.Config{RunDir: t.TempDir()}
	err := Locked(t.Context(), cfg, func(context.Context) error {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		return Locked(ctx, cfg, func(context.Context) error { t.Error("two hold the lock"); return nil })
	})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v", err)
	}
	// Who gave up has not kept it.
	if err := Locked(t.Context(), cfg, func(context.Context) error { return nil }); err != nil {
		t.Error(err)
	}
}
