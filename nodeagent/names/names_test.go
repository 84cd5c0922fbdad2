package names

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"brig/internal/config"
	"brig/internal/netns"
	"brig/internal/netpolicy"
	"brig/internal/netpolicy/nft"
	"brig/internal/require"
	"brig/internal/transit"
	"brig/nodeagent/resolver"
)

func compile(t *testing.T, entries ...string) netpolicy.Policy {
	t.Helper()
	p, err := netpolicy.Compile(netpolicy.Spec{DomainAllowlist: &entries}, netpolicy.Ceiling{})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// node is a transit namespace of its own, in a host of its own.
type node struct {
	t    *testing.T
	cfg  config.Config
	host string
}

func newNode(t *testing.T) *node {
	require.Net(t)
	n := &node{t: t, cfg: config.Defaults()}
	n.cfg.Node = fmt.Sprintf("p%05x", time.Now().UnixNano()&0xfffff)
	n.cfg.RunDir, n.cfg.StateDir = "/run/brig-"+n.cfg.Node, t.TempDir()
	n.host = n.cfg.Node + "-host"
	n.must(netns.Create(n.host))
	t.Cleanup(func() {
		err := n.onHost(func() error { return transit.Remove(context.Background(), &n.cfg) })
		if err := errors.Join(err, netns.Delete(n.host), os.RemoveAll(n.cfg.RunDir)); err != nil {
			t.Error(err)
		}
	})
	return n
}

func (n *node) must(err error) {
	n.t.Helper()
	if err != nil {
		n.t.Fatal(err)
	}
}

func (n *node) onHost(fn func() error) error { return netns.Do(netns.Path(n.host), fn) }

// with the node's network in order.
func (n *node) with(fn func(transit.Node) error) {
	n.t.Helper()
	n.must(n.onHost(func() error {
		return transit.With(n.t.Context(), &n.cfg, func(_ context.Context, node transit.Node) error { return fn(node) })
	}))
}

const link = "brg000000000001"

var address = netip.MustParseAddr("10.88.0.2")

func (n *node) identify() {
	n.t.Helper()
	n.with(func(node transit.Node) error {
		return node.Identify(nft.Binding{Link: link, MAC: "02:00:00:00:00:01", Addr: address})
	})
}

func (n *node) change(policy netpolicy.Policy, lease time.Duration) {
	n.t.Helper()
	n.with(func(node transit.Node) error { _, err := node.Change(link, policy, 0, lease); return err })
}

// TestSeats: what anybody puts in force is what is answered under.
func TestSeats(t *testing.T) {
	n := newNode(t)
	var later time.Duration
	s := seats{transit.Records(&n.cfg), func() time.Duration { return transit.Now() + later }}
	for _, step := range []struct {
		what string
		do   func()
		want string
	}{
		{"nobody", func() {}, "none"},
		{"an identity, no policy", n.identify, "none"},
		{"a policy", func() {
			n.with(func(node transit.Node) error { _, err := node.Bind(link, compile(t, "a.example.com")); return err })
		}, "brg000000000001 1 a.example.com for 0s"},
		{"nothing changed", func() {}, "brg000000000001 1 a.example.com for 0s"},
		{"a lease", func() { n.change(compile(t, "b.example.com"), time.Hour) }, "brg000000000001 2 b.example.com for 1h0m0s"},
		{"time passes", func() { later += 45 * time.Minute }, "brg000000000001 2 b.example.com for 15m0s"},
		{"the lease ends", func() { later += 15 * time.Minute }, "brg000000000001 1 a.example.com for 0s"},
		{"a change", func() { n.change(compile(t, "c.example.com"), 0) }, "brg000000000001 3 c.example.com for 0s"},
		{"gone", func() { n.with(func(node transit.Node) error { return node.Unbind(link) }) }, "none"},
	} {
		step.do()
		got := "none"
		if sandbox, ok := s.Of(address); ok {
			got = fmt.Sprintf("%s %d %s for %v", sandbox.Link, sandbox.Generation, sandbox.Policy.Names()[0], sandbox.Lasts.Round(time.Minute))
		}
		if got != step.want {
			t.Errorf("%s: %s, want %s", step.what, got, step.want)
		}
	}
	if _, ok := s.Of(netip.Addr{}); ok {
		t.Error("no address is a sandbox's")
	}
}

func TestOwnAddresses(t *testing.T) {
	var list []netip.Addr
	var broken error
	w := newOwn(Options{
		Config:    &config.Config{Network: config.Network{NodeAddresses: []string{"198.51.100.9"}}},
		Addresses: func() ([]netip.Addr, error) { return list, broken }, Log: slog.New(slog.DiscardHandler),
	})
	public := netip.MustParseAddr("203.0.113.1")
	broken = errors.New("no netlink")
	if !w.has(public) {
		t.Error("as long as nothing is known, an address is not the node's")
	}
	broken, list = nil, []netip.Addr{public}
	if !w.has(public) || !w.has(netip.MustParseAddr("198.51.100.9")) || w.has(netip.MustParseAddr("203.0.113.2")) {
		t.Errorf("known are %v", w.known)
	}
	if here, err := hostAddresses(); err != nil || len(here) == 0 {
		t.Errorf("the machine has %v, %v", here, err)
	}
}

// TestPins: what is pinned under the policy in force is in the kernel; what is asked for
// under another is not.
func TestPins(t *testing.T) {
	n := newNode(t)
	n.identify()
	n.with(func(node transit.Node) error { _, err := node.Bind(link, compile(t, "a.example.com")); return err })
	repaired := 0
	p := newPins(&n.cfg, func(ctx context.Context) error {
		repaired++
		return n.onHost(func() error { return transit.Ensure(ctx, &n.cfg) })
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); p.work(ctx) }()
	defer func() { cancel(); <-done }()
	pin := func(generation uint64, addr string) error {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		return p.Pin(ctx, link, generation, []resolver.Pin{{Addr: netip.MustParseAddr(addr), Port: 443, TTL: time.Minute}, {Addr: netip.MustParseAddr(addr), Port: 8443, TTL: time.Minute}})
	}
	pinned := func() string {
		t.Helper()
		list, err := transit.Rules(&n.cfg).Pins(link)
		n.must(err)
		var texts []string
		for _, p := range list {
			texts = append(texts, fmt.Sprintf("%s:%d", p.Addr, p.Port))
		}
		return strings.Join(texts, " ")
	}
	n.must(pin(1, "203.0.113.1"))
	if diff := cmp.Diff("203.0.113.1:443 203.0.113.1:8443", pinned()); diff != "" {
		t.Errorf("pinned (-want +got):\n%s", diff)
	}
	n.change(compile(t, "b.example.com"), 0)
	if got := pinned(); got != "" {
		t.Errorf("after a change there is still %s", got)
	}
	if err := pin(1, "203.0.113.1"); !errors.Is(err, errChanged) || pinned() != "" {
		t.Errorf("under an old policy: %v, pinned %s", err, pinned())
	}
	n.must(pin(2, "203.0.113.2"))
	if got := pinned(); got != "203.0.113.2:443 203.0.113.2:8443" {
		t.Errorf("under the new one: %s", got)
	}
	if out, err := exec.Command("ip", "netns", "exec", n.cfg.TransitName(), "nft", "add table inet stranger").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if err := pin(2, "203.0.113.3"); err != nil || repaired != 1 || !strings.Contains(pinned(), "203.0.113.3:443") {
		t.Errorf("after somebody changed the rules: %v, repaired %d times, pinned %s", err, repaired, pinned())
	}
	if err := p.Pin(t.Context(), "brg00000000000f", 1, []resolver.Pin{{Addr: netip.MustParseAddr("203.0.113.1"), Port: 443, TTL: time.Minute}}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("for a link that has no seat: %v", err)
	}
	begun := time.Now()
	const count = 50
	for i := range count {
		n.must(pin(2, fmt.Sprintf("203.0.113.%d", 10+i)))
	}
	t.Logf("%v for a pin of two ports, its share of the pause included", time.Since(begun)/count)
}
