package transit

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/vishvananda/netlink"

	"brig/internal/config"
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

// ensure writes only what is not in force: some take the kernel long, whatever they were.
func (s setting) ensure() error {
	if now, err := s.read(); err == nil && now == s.value {
		return nil
	}
	return s.write()
}

func forwarding(link, value string) setting {
	return setting{"net/ipv4/conf/" + link + "/forwarding", value}
}

// forwarding6 switches IPv6 forwarding of one interface on, which newer kernels can; with
// all of the host's it would change how the host itself gets its addresses.
func forwarding6(link, value string) setting {
	return setting{"net/ipv6/conf/" + link + "/force_forwarding", value}
}

// ensureHost repairs the node's table in the host and switches forwarding on, per
// interface, for the node's link and the uplinks. What an uplink had before is on
// record first.
func ensureHost(cfg *config.Config, c *choice, n Node, uplinks []netlink.Link) error {
	if _, err := n.host.Ensure(); err != nil {
		return err
	}
	for _, s := range n.hostSettings() {
		if err := s.ensure(); err != nil {
			return err
		}
	}
	for _, link := range uplinks {
		if err := c.forward(cfg, c.Forwarding, forwarding(link.Attrs().Name, "1"), link.Attrs().Name); err != nil {
			return err
		}
		if !n.Pool6.IsValid() {
			continue
		}
		if err := c.forward(cfg, c.Forwarding6, forwarding6(link.Attrs().Name, "1"), link.Attrs().Name); err != nil {
			return err
		}
	}
	return nil
}

// forward switches a setting on that is on record first. One that the kernel does not
// have is nobody's.
func (c *choice) forward(cfg *config.Config, record map[string]string, on setting, link string) error {
	before, err := on.read()
	if err != nil || before == on.value || before == "" {
		return err
	}
	record[link] = before
	if err := c.save(cfg); err != nil {
		return err
	}
	return on.write()
}
