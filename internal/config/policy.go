package config

import (
	"fmt"
	"net/netip"

	"brig/internal/netpolicy"
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

// PolicyCeiling is what the operator lets policies say. A validated configuration gives
// no error.
func (n *Network) PolicyCeiling() (netpolicy.Ceiling, error) {
	private, err := n.PrivateRanges()
	if err != nil {
		return netpolicy.Ceiling{}, err
	}
	c := netpolicy.Ceiling{AllowPrivate: private, NoIPv6: n.IPv6 == "off"}
	if n.Ceiling != nil {
		widest, err := netpolicy.Compile(*n.Ceiling, c)
		if err != nil {
			return netpolicy.Ceiling{}, fmt.Errorf("network.ceiling: %w", err)
		}
		c.Max, c.Default = &widest, n.Ceiling
	}
	if n.Default != nil {
		if _, err := netpolicy.Compile(*n.Default, c); err != nil {
			return netpolicy.Ceiling{}, fmt.Errorf("network.default: %w", err)
		}
		c.Default = n.Default
	}
	return c, nil
}
