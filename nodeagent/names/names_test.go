package names

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
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

// TestSeats changes the book as the rules' writers do, page by page.
func TestSeats(t *testing.T) {
	dir := t.TempDir()
	now := time.Hour
	s := newSeats(nft.Book(dir), func() time.Duration { return now })
	addr := netip.MustParseAddr("10.88.0.1")
	write := func(seat nft.Seat) {
		t.Helper()
		data, err := json.Marshal(seat)
		page := filepath.Join(dir, seat.Link+".json")
		link := filepath.Join(dir, seat.Addr.String())
		if err := errors.Join(err, os.WriteFile(page+".new", data, 0o600), os.Rename(page+".new", page)); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Lstat(link); err != nil {
			if err := os.Symlink(seat.Link+".json", link); err != nil {
				t.Fatal(err)
			}
		}
	}
	seat := nft.Seat{Binding: nft.Binding{Link: "brg000000000001", MAC: "02:00:00:00:00:01", Addr: addr}}
	first := nft.Grant{Policy: compile(t, "a.example.com"), Generation: 1}
	lease := nft.Lease{Grant: nft.Grant{Policy: compile(t, "b.example.com"), Generation: 2}, Until: now + time.Minute}
	for _, step := range []struct {
		what string
		do   func()
		want string
	}{
		{"nobody", func() {}, "none"},
		{"an identity, no policy", func() { write(seat) }, "none"},
		{"a policy", func() { seat.Grant = &first; write(seat) }, "brg000000000001 1 a.example.com for 0s"},
		{"nothing changed", func() {}, "brg000000000001 1 a.example.com for 0s"},
		{"a lease", func() { seat.Lease = &lease; write(seat) }, "brg000000000001 2 b.example.com for 1m0s"},
		{"time passes", func() { now += 45 * time.Second }, "brg000000000001 2 b.example.com for 15s"},
		{"the lease ends", func() { now += 15 * time.Second }, "brg000000000001 1 a.example.com for 0s"},
		{"damaged", func() {
			if err := os.WriteFile(filepath.Join(dir, "brg000000000001.json"), []byte("{"), 0o600); err != nil {
				t.Fatal(err)
			}
		}, "none"},
		{"whole again", func() { write(seat) }, "brg000000000001 1 a.example.com for 0s"},
		{"gone", func() {
			if err := os.Remove(filepath.Join(dir, "brg000000000001.json")); err != nil {
				t.Fatal(err)
			}
		}, "none"},
	} {
		step.do()
		got := "none"
		if sandbox, ok := s.Of(addr); ok {
			got = fmt.Sprintf("%s %d %s for %v", sandbox.Link, sandbox.Generation, sandbox.Policy.Names()[0], sandbox.Lasts)
		}
		if got != step.want {
			t.Errorf("%s: %s, want %s", step.what, got, step.want)
		}
	}
	if _, ok := s.Of(netip.Addr{}); ok {
		t.Error("no address is a sandbox's")
	}
	if mapped := netip.MustParseAddr("::ffff:10.88.0.1"); func() bool { write(seat); _, ok := s.Of(mapped); return !ok }() {
		t.Error("a mapped address is not its sandbox's")
	}
	for i := range 3 * minPrune {
		other := nft.Seat{Binding: nft.Binding{Link: fmt.Sprint("brg", i), Addr: netip.AddrFrom4([4]byte{10, 88, 1, byte(i)})}, Grant: &first}
		write(other)
		if _, ok := s.Of(other.Addr); !ok {
			t.Fatal("a page is not found")
		}
		if err := os.Remove(filepath.Join(dir, other.Link+".json")); err != nil {
			t.Fatal(err)
		}
	}
	if len(s.pages) > minPrune+1 {
		t.Errorf("%d pages are kept of sandboxes that are gone", len(s.pages))
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
	require.Net(t)
	cfg := config.Defaults()
	cfg.Node = fmt.Sprintf("p%05x", time.Now().UnixNano()&0xfffff)
	cfg.RunDir, cfg.StateDir = "/run/brig-"+cfg.Node, t.TempDir()
	host := cfg.Node + "-host"
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(netns.Create(host))
	onHost := func(fn func() error) error { return netns.Do(netns.Path(host), fn) }
	t.Cleanup(func() {
		err := onHost(func() error { return transit.Remove(context.Background(), &cfg) })
		if err := errors.Join(err, netns.Delete(host), os.RemoveAll(cfg.RunDir)); err != nil {
			t.Error(err)
		}
	})
	with := func(fn func(transit.Node) error) {
		t.Helper()
		must(onHost(func() error {
			return transit.With(t.Context(), &cfg, func(_ context.Context, n transit.Node) error { return fn(n) })
		}))
	}
	const link = "brg000000000001"
	with(func(n transit.Node) error {
		err := n.Identify(nft.Binding{Link: link, MAC: "02:00:00:00:00:01", Addr: netip.MustParseAddr("10.88.0.2")})
		if err != nil {
			return err
		}
		_, err = n.Bind(link, compile(t, "a.example.com"))
		return err
	})
	repaired := 0
	p := newPins(&cfg, func(ctx context.Context) error {
		repaired++
		return onHost(func() error { return transit.Ensure(ctx, &cfg) })
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
		list, err := transit.Rules(&cfg).Pins(link)
		must(err)
		var texts []string
		for _, p := range list {
			texts = append(texts, fmt.Sprintf("%s:%d", p.Addr, p.Port))
		}
		return strings.Join(texts, " ")
	}
	must(pin(1, "203.0.113.1"))
	if diff := cmp.Diff("203.0.113.1:443 203.0.113.1:8443", pinned()); diff != "" {
		t.Errorf("pinned (-want +got):\n%s", diff)
	}
	with(func(n transit.Node) error { _, err := n.Change(link, compile(t, "b.example.com"), 1, 0); return err })
	if got := pinned(); got != "" {
		t.Errorf("after a change there is still %s", got)
	}
	if err := pin(1, "203.0.113.1"); !errors.Is(err, errChanged) || pinned() != "" {
		t.Errorf("under an old policy: %v, pinned %s", err, pinned())
	}
	must(pin(2, "203.0.113.2"))
	if got := pinned(); got != "203.0.113.2:443 203.0.113.2:8443" {
		t.Errorf("under the new one: %s", got)
	}
	if out, err := exec.Command("ip", "netns", "exec", cfg.TransitName(), "nft", "add table inet stranger").CombinedOutput(); err != nil {
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
		must(pin(2, fmt.Sprintf("203.0.113.%d", 10+i)))
	}
	t.Logf("%v for a pin of two ports, its share of the pause included", time.Since(begun)/count)
}
