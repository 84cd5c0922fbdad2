package config

import (
	"fmt"
	"net/netip"
)

// PrivateRanges are AllowPrivate, parsed. A validated configuration gives no error.
func (n *Network) PrivateRanges() ([]netip.Prefix, error) {
	var ranges []netip.Prefix
	for _, s := range n.AllowPrivate {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return nil, fmt.Errorf("network.allow_private: %w", err)
		}
		ranges = append(ranges, p)
	}
	return ranges, nil
}
