package cni

import (
	"net/netip"
	"testing"

	"brig/internal/transit"
)

// TestPoliceable: what an IPAM plugin may pick are addresses that no network, no gateway
// and nothing of the node has.
func TestPoliceable(t *testing.T) {
	node := transit.Node{Pool: netip.MustParsePrefix("10.88.0.0/16"), Pool6: netip.MustParsePrefix("fd12::/64")}
	four := transit.Node{Pool: node.Pool}
	for _, tc := range []struct {
		node   transit.Node
		a4, a6 string
		want   bool
	}{
		{node, "10.88.0.1", "fd12::1", true},
		{node, "10.88.0.1", "", true},
		{node, "10.88.0.0", "", false},
		{node, "10.88.255.255", "", false},
		{node, "10.89.0.1", "", false},
		{node, "10.88.0.1", "fd12::", false},
		{node, "10.88.0.1", "fd12::ffff:ffff:ffff:ffff", false},
		{node, "10.88.0.1", "fd13::1", false},
		{four, "10.88.0.1", "", true},
		{four, "10.88.0.1", "fd12::1", false},
	} {
		r := Request{Address: netip.MustParseAddr(tc.a4)}
		if tc.a6 != "" {
			r.Addr6 = netip.MustParseAddr(tc.a6)
		}
		if err := policeable(tc.node, r); (err == nil) != tc.want {
			t.Errorf("%s %s of %s and %s: %v", tc.a4, tc.a6, tc.node.Pool, tc.node.Pool6, err)
		}
	}
}
