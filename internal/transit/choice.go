package transit

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"

	"github.com/vishvananda/netlink"

	"brig/internal/config"
	"brig/internal/netns"
	"brig/internal/netpolicy"
)

// choice is what was picked for this boot; it is on record before it is used.
type choice struct {
	Pool netip.Prefix `json:"pool"`
	// Host and Up are the two ends of the link between host and transit, in a /30.
	Host netip.Prefix `json:"host"`
	Up   netip.Prefix `json:"up"`
	// HostNS is the network namespace, by inode, that this node takes for the host's.
	HostNS uint64 `json:"host_ns"`
	// Forwarding are the interfaces of the host whose forwarding was switched on,
	// with what was there before.
	Forwarding  map[string]string `json:"forwarding"`
	Forwarding6 map[string]string `json:"forwarding6"`
	// Pool6 is where sandbox addresses of IPv6 come from; invalid: the host had no IPv6.
	Pool6 netip.Prefix `json:"pool6"`
}

func choicePath(cfg *config.Config) string { return filepath.Join(cfg.NetworkDir(), "choice.json") }

// loadChoice returns the recorded choice; os.ErrNotExist if there is none.
func loadChoice(cfg *config.Config) (choice, error) {
	data, err := os.ReadFile(choicePath(cfg))
	if err != nil {
		return choice{}, err
	}
	var c choice
	err = json.Unmarshal(data, &c)
	if err == nil && (!c.Pool.IsValid() || !c.Host.IsValid() || !c.Up.IsValid()) {
		err = errors.New("an address is missing")
	}
	if err != nil {
		return choice{}, fmt.Errorf("%s is damaged; remove it while no sandbox runs: %w", choicePath(cfg), err)
	}
	c.prepare()
	return c, nil
}

func (c *choice) prepare() {
	if c.Forwarding == nil {
		c.Forwarding = map[string]string{}
	}
	if c.Forwarding6 == nil {
		c.Forwarding6 = map[string]string{}
	}
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
// before. Until the node's link is there its pick is not settled: another node may
// have taken the same since, so the pick must still be free.
func choose(cfg *config.Config, settled bool) (choice, error) {
	before, err := loadChoice(cfg)
	if err == nil && settled {
		return before.withIPv6(cfg)
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return choice{}, err
	}
	used, failed := usedPrefixes()
	if failed != nil {
		return choice{}, failed
	}
	if err == nil && free(before.Pool, used) && free(before.Host.Masked(), used) {
		return before.withIPv6(cfg)
	}
	c := choice{Pool6: before.Pool6, Forwarding: before.Forwarding, Forwarding6: before.Forwarding6}
	c.prepare()
	if c.Pool, err = choosePool(cfg.Network.Pool, used); err != nil {
		return choice{}, err
	}
	if err := c.chooseLink(used); err != nil {
		return choice{}, err
	}
	if c.HostNS, err = netns.ID(hostNS); err != nil {
		return choice{}, err
	}
	if err := c.save(cfg); err != nil {
		return choice{}, err
	}
	return c.withIPv6(cfg)
}

// withIPv6 picks a pool of IPv6 addresses once the host has IPv6, and keeps it then.
func (c choice) withIPv6(cfg *config.Config) (choice, error) {
	if c.Pool6.IsValid() || cfg.Network.IPv6 == "off" {
		return c, nil
	}
	has, err := hasIPv6()
	if err != nil || !has {
		return c, err
	}
	if cfg.Network.Pool6 != "" {
		if c.Pool6, err = netip.ParsePrefix(cfg.Network.Pool6); err != nil {
			return choice{}, err
		}
	} else {
		b := [16]byte{0xfd} // unique local, and random as RFC 4193 wants it
		_, _ = rand.Read(b[1:8])
		c.Pool6 = netip.PrefixFrom(netip.AddrFrom16(b), 64)
	}
	return c, c.save(cfg)
}

// hasIPv6 tells whether the host has a default route of IPv6, and lets it be forwarded
// between two interfaces alone.
func hasIPv6() (bool, error) {
	routes, err := netlink.RouteList(nil, netlink.FAMILY_V6)
	if err != nil {
		return false, fmt.Errorf("list the host's IPv6 routes: %w", err)
	}
	can, err := forwarding6("all", "").read()
	if err != nil {
		return false, err
	}
	return can != "" && slices.ContainsFunc(routes, func(r netlink.Route) bool {
		if r.Dst == nil {
			return true
		}
		bits, _ := r.Dst.Mask.Size()
		return bits == 0 && r.Dst.IP.IsUnspecified()
	}), nil
}

// hostNS is the calling thread's network namespace.
const hostNS = "/proc/thread-self/ns/net"

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
		used = append(used, netip.PrefixFrom(a, a.BitLen()))
	}
	return used, err
}

// hostAddresses are all addresses of the host, and the broadcast addresses of its
// networks, which it answers to as well.
func hostAddresses() ([]netip.Addr, error) {
	list, err := netlink.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return nil, fmt.Errorf("list the host's addresses: %w", err)
	}
	var addrs []netip.Addr
	for _, a := range list {
		addr, ok := netip.AddrFromSlice(a.IP)
		if addr = addr.Unmap(); !ok || addr.Is6() && (addr.IsLinkLocalUnicast() || addr.IsLoopback()) {
			continue // those of IPv6 no sandbox reaches anyway
		}
		addrs = append(addrs, addr)
		if bits, _ := a.Mask.Size(); addr.Is4() && bits < 31 {
			addrs = append(addrs, netpolicy.RangeOf(netip.PrefixFrom(addr, bits)).To)
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
