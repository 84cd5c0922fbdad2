package nft

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"

	"brig/internal/netns"
	"brig/internal/netpolicy"
	"brig/internal/require"
)

// namespace makes a throwaway namespace with the base loaded.
func namespace(t *testing.T, name string) Namespace {
	t.Helper()
	require.Net(t)
	name = "brigtest-nft-" + name
	if err := netns.Create(name); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := netns.Delete(name); err != nil {
			t.Error(err)
		}
	})
	n := Namespace(netns.Path(name))
	if err := n.Apply(t.Context(), RenderBase(Base{Node: []netip.Addr{netip.MustParseAddr("203.0.113.1")}})); err != nil {
		t.Fatal(err)
	}
	return n
}

func read(t *testing.T, n Namespace) *State {
	t.Helper()
	s, err := n.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func binding(i int) Binding {
	return Binding{
		Link: fmt.Sprintf("brg%012x", i), MAC: fmt.Sprintf("02:00:00:00:00:%02x", i),
		Addr: netip.AddrFrom4([4]byte{10, 88, 0, byte(i)}),
	}
}

func TestTheBaseIsWhatWasRendered(t *testing.T) {
	n := namespace(t, "base")
	s := read(t, n)
	if err := s.CheckBase(); err != nil {
		t.Error(err)
	}
	if node := s.Node(); len(node) != 1 || node[0].String() != "203.0.113.1" {
		t.Errorf("node4 is %v", node)
	}
	if err := n.Apply(t.Context(), RenderBase(Base{})); err != nil {
		t.Errorf("a second load: %v", err)
	}
}

func TestNoRules(t *testing.T) {
	n := namespace(t, "none")
	if err := n.Apply(t.Context(), "delete table inet brig\n"); err != nil {
		t.Fatal(err)
	}
	if _, err := n.Read(t.Context()); !errors.Is(err, ErrNoRules) {
		t.Errorf("error %v", err)
	}
	if err := n.Bind(t.Context(), "brg000000000001", netpolicy.Open()); err == nil {
		t.Error("a policy was bound without rules")
	}
}

func TestLifeOfABinding(t *testing.T) {
	n, ctx := namespace(t, "life"), t.Context()
	one, two := binding(1), binding(2)
	for _, b := range []Binding{one, two, one} { // the third is a retry
		if err := n.Identify(ctx, b); err != nil {
			t.Fatal(err)
		}
	}
	if err := read(t, n).Verify(one.Link, netpolicy.Policy{}); err != nil {
		t.Errorf("identified, but not in deny: %v", err)
	}
	if err := n.Bind(ctx, "brg00000000dead", netpolicy.Open()); err == nil {
		t.Error("a link without identity got a policy")
	}
	list := policy(t, "198.51.100.0/24", "8.8.8.8/32")
	for _, p := range []netpolicy.Policy{list, netpolicy.Open(), list, list, policy(t), {}, list} {
		if err := n.Bind(ctx, one.Link, p); err != nil {
			t.Fatalf("bind %v: %v", p, err)
		}
		if err := read(t, n).Verify(two.Link, netpolicy.Policy{}); err != nil {
			t.Errorf("binding %v touched another link: %v", p, err)
		}
	}
	if err := read(t, n).Verify(one.Link, netpolicy.Open()); err == nil {
		t.Error("a list verifies as open")
	}
	if err := n.Bind(ctx, two.Link, list); err != nil {
		t.Fatal(err)
	}
	if err := n.Unbind(ctx, one.Link); err != nil {
		t.Fatal(err)
	}
	if err := read(t, n).Verify(two.Link, list); err != nil {
		t.Errorf("unbinding one took the shared policy of the other: %v", err)
	}
	for range 2 {
		if err := n.Unbind(ctx, two.Link); err != nil {
			t.Fatal(err)
		}
	}
	s := read(t, n)
	if len(s.Links()) != 0 || len(s.egress)+len(s.ingress)+len(s.dns) != 0 {
		t.Errorf("left behind: %+v", s)
	}
	for name := range s.chains {
		if strings.Contains(name, list.Hash()) || strings.Contains(name, policy(t).Hash()) {
			t.Errorf("chain %s is left behind", name)
		}
	}
}

// TestTamperingIsSeen changes one thing at a time behind Verify's back.
func TestTamperingIsSeen(t *testing.T) {
	list := policy(t, "198.51.100.0/24")
	one := binding(1)
	for name, change := range map[string]string{
		"a rule before ours":   "insert rule inet brig from_sandbox accept",
		"a policy of accept":   "chain inet brig forward { policy accept; }",
		"a range too many":     "add element inet brig cidr_" + list.Hash() + " { 203.0.113.0/24 }",
		"another chain":        fmt.Sprintf("delete element inet brig egress { %q }; add element inet brig egress { %q : goto out_open }", one.Link, one.Link),
		"an accept in policy":  "add rule inet brig out_" + list.Hash() + " accept",
		"DNS":                  fmt.Sprintf("add element inet brig dns4 { %q }", one.Link),
		"a hole in never-list": "delete element inet brig never4 { 10.0.0.0/8 }",
		"no identity":          fmt.Sprintf("delete element inet brig bind4 { %q . %s . %s }", one.Link, one.MAC, one.Addr),
	} {
		t.Run(name, func(t *testing.T) {
			n, ctx := namespace(t, "tamper"), t.Context()
			if err := n.Identify(ctx, one); err != nil {
				t.Fatal(err)
			}
			if err := n.Bind(ctx, one.Link, list); err != nil {
				t.Fatal(err)
			}
			if err := n.Apply(ctx, change); err != nil {
				t.Fatal(err)
			}
			if err := read(t, n).Verify(one.Link, list); err == nil {
				t.Error("not seen")
			}
		})
	}
}

// TestManyRanges loads lists that once overflowed a netlink attribute in a library.
func TestManyRanges(t *testing.T) {
	n, ctx := namespace(t, "many"), t.Context()
	if err := n.Identify(ctx, binding(1)); err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	for _, size := range []int{3_000, 20_000} {
		entries := make([]string, size)
		for i := range entries {
			addr := netip.AddrFrom4([4]byte{byte(1 + rng.IntN(9)), byte(rng.IntN(256)), byte(rng.IntN(256)), byte(rng.IntN(256))})
			entries[i] = netip.PrefixFrom(addr, 20+rng.IntN(13)).Masked().String()
		}
		if err := n.Bind(ctx, binding(1).Link, policy(t, entries...)); err != nil {
			t.Errorf("%d ranges: %v", size, err)
		}
	}
}
