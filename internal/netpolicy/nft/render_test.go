package nft

import (
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"brig/internal/netpolicy"
)

var update = flag.Bool("update", false, "write the golden files anew")

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name+".nft")
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}

func policy(t *testing.T, cidrs ...string) netpolicy.Policy {
	t.Helper()
	p, err := netpolicy.Compile(netpolicy.Spec{CIDRAllowlist: &cidrs}, netpolicy.Ceiling{})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestGolden(t *testing.T) {
	golden(t, "base", RenderBase(Base{
		Private: []netip.Prefix{netip.MustParsePrefix("10.20.0.0/16")},
		Node:    []netip.Addr{netip.MustParseAddr("203.0.113.1"), netip.MustParseAddr("2001:db8::1")},
	}))
	golden(t, "base-bare", RenderBase(Base{}))
	golden(t, "host", RenderHost(Host{Table: "brig", Link: "brig0", Pool: netip.MustParsePrefix("10.88.0.0/16")}))
	golden(t, "policy", RenderPolicy(policy(t, "203.0.113.0/24", "8.8.8.8/32")))
	golden(t, "policy-empty", RenderPolicy(policy(t)))
	state := &State{
		bind:   []Binding{{Link: "brg000000000001", MAC: "02:00:00:00:00:01", Addr: netip.MustParseAddr("10.88.0.11")}},
		chains: map[string]chain{"out_open": {}, "out_old": {}, "in_old": {}}, ranges: map[string][]netpolicy.Range{"cidr_old": nil},
		egress: map[string]string{"brg000000000001": "out_old"}, ingress: map[string]string{"brg000000000001": "in_old"},
		dns: []string{"brg000000000001"},
	}
	golden(t, "bind-open", state.renderBind("brg000000000001", netpolicy.Open()))
	golden(t, "bind-block", state.renderBind("brg000000000001", netpolicy.Policy{}))
	unbind := state.renderUnbind("brg000000000001")
	delete(state.egress, "brg000000000001")
	golden(t, "unbind", unbind+state.renderSweep())
}
