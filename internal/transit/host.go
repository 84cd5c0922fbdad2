package transit

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/vishvananda/netlink"

	"brig/internal/config"
	"brig/internal/netpolicy/nft"
)

// setting is a kernel parameter of the current namespace.
type setting struct{ key, value string }

func (s setting) path() string { return filepath.Join("/proc/sys", s.key) }

// read returns what is in force; a parameter that the kernel does not have is "".
func (s setting) read() (string, error) {
	data, err := os.ReadFile(s.path())
	if errors.Is(err, os.ErrNotExist) {
		return "", nil
	}
	return strings.TrimSpace(string(data)), err
}

// write puts the value in force. IPv6 parameters are missing where the kernel has no
// IPv6, which is as good as switched off.
func (s setting) write() error {
	err := os.WriteFile(s.path(), []byte(s.value), 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("set %s: %w", s.key, err)
	}
	return nil
}

func forwarding(link, value string) setting {
	return setting{"net/ipv4/conf/" + link + "/forwarding", value}
}

// ensureHost repairs the node's table in the host and switches forwarding on, per
// interface, for the node's link and the uplinks. What an uplink had before is on
// record first.
func ensureHost(ctx context.Context, cfg *config.Config, c *choice, uplinks []netlink.Link) error {
	host := nft.Host{Table: cfg.HostTable(), Link: cfg.HostLink(), Pool: c.Pool}
	intact, err := host.Intact(ctx)
	if err != nil {
		return err
	}
	if !intact {
		if err := nft.Namespace("").Apply(ctx, nft.RenderHost(host)); err != nil {
			return fmt.Errorf("load table %s: %w", cfg.HostTable(), err)
		}
	}
	for _, s := range []setting{
		forwarding(cfg.HostLink(), "1"),
		{"net/ipv4/conf/" + cfg.HostLink() + "/rp_filter", "0"},
		{"net/ipv6/conf/" + cfg.HostLink() + "/disable_ipv6", "1"},
	} {
		if err := s.write(); err != nil {
			return err
		}
	}
	for _, link := range uplinks {
		if err := c.forward(cfg, link.Attrs().Name); err != nil {
			return err
		}
	}
	return nil
}

func (c *choice) forward(cfg *config.Config, link string) error {
	before, err := forwarding(link, "").read()
	if err != nil || before == "1" {
		return err
	}
	c.Forwarding[link] = before
	if err := c.save(cfg); err != nil {
		return err
	}
	return forwarding(link, "1").write()
}
