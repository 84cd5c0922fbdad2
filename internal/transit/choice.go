package transit

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/vishvananda/netlink"

	"brig/internal/config"
)

// choice is what was picked for this boot; it is on record before it is used.
type choice struct {
	Pool netip.Prefix `json:"pool"`
	// Host and Up are the two ends of the link between host and transit, in a /30.
	Host netip.Prefix `json:"host"`
	Up   netip.Prefix `json:"up"`
	// Forwarding are the interfaces of the host whose forwarding was switched on,
	// with what was there before.
	Forwarding map[string]string `json:"forwarding"`
}

func choicePath(cfg *config.Config) string { return filepath.Join(cfg.NetworkDir(), "choice.json") }

// loadChoice returns the recorded choice; os.ErrNotExist if there is none.
func loadChoice(cfg *config.Config) (choice, error) {
	data, err := os.ReadFile(choicePath(cfg))
	if err != nil {
		return choice{}, err
	}
	var c choice
	if err := json.Unmarshal(data, &c); err != nil || !c.Pool.IsValid() || !c.Host.IsValid() || !c.Up.IsValid() {
		return choice{}, fmt.Errorf("%s is damaged; remove it while no sandbox runs: %v", choicePath(cfg), err)
	}
	return c, nil
}

func (c choice) save(cfg *config.Config) error {
	data, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(cfg.NetworkDir(), 0o700); err != nil {
		return err
	}
	// RunDir does not outlive a reboot, so a rename without fsync is enough.
	next := choicePath(cfg) + ".new"
	if err := os.WriteFile(next, data, 0o600); err != nil {
		return err
	}
	return os.Rename(next, choicePath(cfg))
}

// choose picks addresses that nothing on the host uses, or returns what was picked
// before.
func choose(cfg *config.Config) (choice, error) {
	c, err := loadChoice(cfg)
	if err == nil || !errors.Is(err, os.ErrNotExist) {
		return c, err
	}
	used, err := usedPrefixes()
	if err != nil {
		return choice{}, err
	}
	if c.Pool, err = choosePool(cfg.Network.Pool, used); err != nil {
		return choice{}, err
	}
	if err := c.chooseLink(used); err != nil {
		return choice{}, err
	}
	c.Forwarding = map[string]string{}
	return c, c.save(cfg)
}

// usedPrefixes are the host's routes and addresses, in all its tables.
func usedPrefixes() ([]netip.Prefix, error) {
	routes, err := netlink.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Table: 0}, netlink.RT_FILTER_TABLE)
	if err != nil {
		return nil, fmt.Errorf("list the host's routes: %w", err)
	}
	var used []netip.Prefix
	for _, r := range routes {
		if r.Dst == nil {
			continue
		}
		addr, ok := netip.AddrFromSlice(r.Dst.IP.To4())
		bits, _ := r.Dst.Mask.Size()
		if ok && bits > 0 { // the default route is in nobody's way
			used = append(used, netip.PrefixFrom(addr, bits))
		}
	}
	addrs, err := hostAddresses()
	for _, a := range addrs {
		used = append(used, netip.PrefixFrom(a, 32))
	}
	return used, err
}

// hostAddresses are all IPv4 addresses of the host.
func hostAddresses() ([]netip.Addr, error) {
	list, err := netlink.AddrList(nil, netlink.FAMILY_V4)
	if err != nil {
		return nil, fmt.Errorf("list the host's addresses: %w", err)
	}
	var addrs []netip.Addr
	for _, a := range list {
		if addr, ok := netip.AddrFromSlice(a.IP.To4()); ok {
			addrs = append(addrs, addr)
		}
	}
	return addrs, nil
}

func free(p netip.Prefix, used []netip.Prefix) bool {
	for _, u := range used {
		if p.Overlaps(u) {
			return false
		}
	}
	return true
}

// choosePool takes the configured pool or the first free /16 of 10.88.0.0/13.
func choosePool(configured string, used []netip.Prefix) (netip.Prefix, error) {
	if configured != "" {
		pool, err := netip.ParsePrefix(configured)
		if err == nil && !free(pool, used) {
			err = fmt.Errorf("network.pool %s overlaps a route or an address of this host; choose another range", pool)
		}
		return pool, err
	}
	for second := byte(88); second < 96; second++ {
		pool := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, second, 0, 0}), 16)
		if free(pool, used) {
			return pool, nil
		}
	}
	return netip.Prefix{}, errors.New("no /16 of 10.88.0.0/13 is free on this host; set network.pool in the configuration")
}

// chooseLink takes the first free /30 of 169.254.2.0/23.
func (c *choice) chooseLink(used []netip.Prefix) error {
	for i := range 128 {
		base := [4]byte{169, 254, byte(2 + i/64), byte(i % 64 * 4)}
		if net := netip.PrefixFrom(netip.AddrFrom4(base), 30); free(net, used) {
			c.Host = netip.PrefixFrom(net.Addr().Next(), 30)
			c.Up = netip.PrefixFrom(net.Addr().Next().Next(), 30)
			return nil
		}
	}
	return errors.New("no /30 of 169.254.2.0/23 is free on this host")
}
