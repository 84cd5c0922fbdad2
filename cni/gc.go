package cni

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/vishvananda/netlink"

	"brig/internal/attachment"
	"brig/internal/config"
	"brig/internal/netns"
	"brig/internal/transit"
)

// GC removes every attachment of the network that is not valid, and links and
// bindings that nobody has a lease for: what killed processes left. Attachments of
// other networks stay. It also removes the links that a killed reaper left.
func GC(ctx context.Context, cfg *config.Config, network string, valid []attachment.Key) error {
	if untouched(cfg) {
		return nil
	}
	err := transit.With(ctx, cfg, func(_ context.Context, node transit.Node) error { return collect(cfg, node, network, valid) })
	if err != nil {
		return fmt.Errorf("collect attachments of %s: %w", network, err)
	}
	return nil
}

func collect(cfg *config.Config, node transit.Node, network string, valid []attachment.Key) error {
	keep := map[string]bool{}
	for _, k := range valid {
		keep[k.Link()] = true
	}
	all, err := leases(cfg).All()
	if err != nil {
		return err
	}
	drop := map[string]bool{}
	for _, l := range all {
		if l.Network == network && !keep[l.Link] {
			drop[l.Link] = true
		} else {
			keep[l.Link] = true
		}
	}
	present, err := found(node)
	errs := []error{err}
	for _, link := range present {
		if !keep[link] {
			drop[link] = true
		}
	}
	for link := range drop {
		errs = append(errs, detach(cfg, node, link, later))
	}
	errs = append(errs, reapNow(cfg), freeOrphans(cfg))
	return errors.Join(append(errs, leases(cfg).Tidy())...)
}

// freeOrphans gives addresses back that no lease names any more.
func freeOrphans(cfg *config.Config) error {
	orphans, err := leases(cfg).Orphans()
	if err != nil {
		return err
	}
	for _, l := range orphans {
		if err := flushConntrack(transit.Path(cfg), addresses(l)...); err != nil {
			return err
		}
		if err := leases(cfg).FreeOrphan(l); err != nil {
			return err
		}
	}
	return nil
}

// later is the Starter of whoever removes the dead links himself, all at once.
func later(*os.File) error { return nil }

// found are the sandbox links that the transit namespace has or has rules for. No ADD
// is under way, since the caller holds the lock.
func found(node transit.Node) (names []string, err error) {
	err = netns.Do(node.Path, func() error {
		links, err := netlink.LinkList()
		for _, link := range links {
			if strings.HasPrefix(link.Attrs().Name, attachment.LinkPrefix) && link.Attrs().Group != dead {
				names = append(names, link.Attrs().Name)
			}
		}
		return err
	})
	seats, failed := node.Seats()
	for _, s := range seats {
		names = append(names, s.Link)
	}
	return names, errors.Join(err, failed)
}
