package network

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"brig/internal/config"
	"brig/internal/netns"
	"brig/internal/netpolicy"
	"brig/internal/netpolicy/nft"
	"brig/internal/require"
	"brig/internal/transit"
	"brig/nodeagent/standing"
)

// inNode runs fn in a throwaway namespace that stands for the host, with a node's real
// transit namespace beside it.
func inNode(t *testing.T, fn func(n *Network)) {
	t.Helper()
	require.Net(t)
	host := fmt.Sprintf("brig-rules-%d", os.Getpid())
	if err := netns.Create(host); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := netns.Delete(host); err != nil {
			t.Error(err)
		}
	}()
	cfg := config.Defaults()
	cfg.Node, cfg.StateDir = fmt.Sprintf("r%d", os.Getpid()%1_000_000), t.TempDir()
	cfg.RunDir = "/run/brig-" + cfg.Node
	defer os.RemoveAll(cfg.RunDir)
	err := netns.Do(netns.Path(host), func() error {
		for _, line := range []string{"link set lo up", "link add wan type veth peer name far", "link set wan up", "addr add 203.0.113.1/24 dev wan", "route add default via 203.0.113.2"} {
			if out, err := exec.Command("ip", strings.Fields(line)...).CombinedOutput(); err != nil {
				return fmt.Errorf("ip %s: %w: %s", line, err, out)
			}
		}
		err := transit.Ensure(t.Context(), &cfg)
		if err == nil {
			fn(&Network{cfg: &cfg})
		}
		return errors.Join(err, transit.Remove(context.Background(), &cfg))
	})
	if err != nil {
		t.Fatal(err)
	}
}

func (n *Network) bind(t *testing.T, id string, policy netpolicy.Policy) {
	t.Helper()
	b := nft.Binding{Link: n.Link(id), MAC: "02:01:0a:58:00:02", Addr: netip.MustParseAddr("10.88.0.2")}
	err := transit.With(t.Context(), n.cfg, func(_ context.Context, node transit.Node) error {
		if err := node.Identify(b); err != nil {
			return err
		}
		_, err := node.Bind(b.Link, policy)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func compile(t *testing.T, s netpolicy.Spec) netpolicy.Policy {
	t.Helper()
	p, err := netpolicy.Compile(s, netpolicy.Ceiling{})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func text(s standing.Standing) string {
	words := "nothing"
	if s.Grant != nil {
		words = fmt.Sprintf("%d %s", s.Grant.Generation, s.Grant.Policy)
	}
	if l, ok := s.Leased(transit.Now()); ok {
		words += fmt.Sprintf(", leased %d %s", l.Generation, l.Policy)
	}
	return words
}

func TestRules(t *testing.T) {
	list := compile(t, netpolicy.Spec{CIDRAllowlist: &[]string{"198.51.100.0/24"}})
	inNode(t, func(n *Network) {
		const id = "sb-aaaaaaaaaaaaaaaa"
		const lease = 3 * time.Second // in which what stands is looked at, also where it takes long
		stands := func(want string) {
			t.Helper()
			got, err := n.Standing(id)
			if err != nil || text(got) != want {
				t.Errorf("stands %s, %v; want %s", text(got), err, want)
			}
			live, err := n.Live(t.Context(), id)
			if err != nil || text(live.Standing) != want || live.Difference != "" {
				t.Errorf("live is %s, %v, difference %q; want %s", text(live.Standing), err, live.Difference, want)
			}
		}
		stands("nothing")
		if _, err := n.Change(t.Context(), id, list, 0, 0); !errdefs.IsFailedPrecondition(err) {
			t.Errorf("a change of nothing: %v; want an ErrFailedPrecondition", err)
		}
		n.bind(t, id, netpolicy.Open())
		stands("1 open")
		if got, err := n.Change(t.Context(), id, list, 1, 0); err != nil || text(got) != "2 1 ranges" {
			t.Errorf("changed to %s, %v", text(got), err)
		}
		stands("2 1 ranges")
		if _, err := n.Change(t.Context(), id, list, 1, 0); !errdefs.IsAborted(err) || !strings.HasPrefix(err.Error(), "generation 2 is in force, not 1") {
			t.Errorf("another generation: %v; want an ErrAborted", err)
		}
		if got, err := n.Change(t.Context(), id, netpolicy.Open(), 2, lease); err != nil || text(got) != "2 1 ranges, leased 3 open" {
			t.Errorf("leased to %s, %v", text(got), err)
		}
		stands("2 1 ranges, leased 3 open")
		time.Sleep(lease + 100*time.Millisecond)
		stands("2 1 ranges")
		live, err := n.Live(t.Context(), id)
		if err != nil || live.Addr != netip.MustParseAddr("10.88.0.2") {
			t.Errorf("%+v, %v", live, err)
		}
		own := netip.MustParseAddr("203.0.113.1")
		found := false
		for _, a := range live.Node {
			found = found || a == own
		}
		if !found {
			t.Errorf("the node's own addresses are %v, without %s", live.Node, own)
		}
		// What somebody else does to the kernel's rules is told, and not repaired.
		for _, line := range []string{
			fmt.Sprintf("delete element inet brig egress { %q }", n.Link(id)),
			fmt.Sprintf("add element inet brig egress { %q : goto out_open }", n.Link(id)),
		} {
			cmd := exec.Command("ip", "netns", "exec", n.cfg.TransitName(), "nft", line)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%s: %v: %s", line, err, out)
			}
			if live, err := n.Live(t.Context(), id); err != nil || !strings.Contains(live.Difference, "egress of "+n.Link(id)) {
				t.Errorf("after %s: %v, difference %q", line, err, live.Difference)
			}
		}
	})
}
