package transit

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/vishvananda/netlink"

	"brig/internal/config"
	"brig/internal/netns"
	"brig/internal/netpolicy/nft"
)

// Remove takes the node's network away: table, link, namespace, settings, records.
// Sandboxes that still run are cut off. What is not there is no error; it goes on
// past failures and joins them.
func Remove(ctx context.Context, cfg *config.Config) error {
	return Locked(ctx, cfg, func(ctx context.Context) error {
		return errors.Join(
			removeLink(cfg.HostLink()),
			netns.Delete(cfg.TransitName()),
			nft.RemoveHost(cfg.HostTable()),
			restoreForwarding(cfg),
			os.RemoveAll(cfg.NetworkDir()),
		)
	})
}

func removeLink(name string) error {
	link, err := netlink.LinkByName(name)
	if errors.As(err, new(netlink.LinkNotFoundError)) {
		return nil
	}
	if err == nil {
		err = netlink.LinkDel(link)
	}
	if err != nil {
		return fmt.Errorf("remove link %s: %w", name, err)
	}
	return nil
}

// restoreForwarding puts back what the uplinks had, unless another node of this host
// still counts on it: then that one inherits the record.
func restoreForwarding(cfg *config.Config) error {
	c, err := loadChoice(cfg)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	heir, err := otherNode(cfg)
	if err != nil {
		return err
	}
	if heir != nil {
		return heir.inherit(c)
	}
	var errs []error
	for link, before := range c.Forwarding {
		errs = append(errs, forwarding(link, before).write())
	}
	for link, before := range c.Forwarding6 {
		errs = append(errs, forwarding6(link, before).write())
	}
	return errors.Join(errs...)
}

// otherNode finds the record of another node whose namespace is alive: run
// directories of nodes stand side by side.
func otherNode(cfg *config.Config) (*heir, error) {
	records, err := filepath.Glob(filepath.Join(filepath.Dir(cfg.RunDir), "brig*", "network", "choice.json"))
	if err != nil {
		return nil, err
	}
	here, err := netns.ID(hostNS)
	if err != nil {
		return nil, err
	}
	for _, path := range records {
		if path == choicePath(cfg) {
			continue
		}
		other := config.Config{RunDir: filepath.Dir(filepath.Dir(path))}
		if c, err := loadChoice(&other); err == nil && c.HostNS == here && linkHas(c) {
			return &heir{cfg: &other, choice: c}, nil
		}
	}
	return nil, nil
}

// linkHas tells whether the host's end of a recorded link exists in this host.
func linkHas(c choice) bool {
	addrs, err := hostAddresses()
	if err != nil {
		return true // in doubt, leave forwarding to the other one
	}
	for _, a := range addrs {
		if a == c.Host.Addr() {
			return true
		}
	}
	return false
}

type heir struct {
	cfg *config.Config
	choice
}

func (h *heir) inherit(from choice) error {
	for link, before := range from.Forwarding {
		if _, ok := h.Forwarding[link]; !ok {
			h.Forwarding[link] = before
		}
	}
	for link, before := range from.Forwarding6 {
		if _, ok := h.Forwarding6[link]; !ok {
			h.Forwarding6[link] = before
		}
	}
	return h.save(h.cfg)
}
