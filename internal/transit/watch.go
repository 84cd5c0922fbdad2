package transit

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"brig/internal/config"
	"brig/internal/netns"
)

// settleTime is how long Watch waits for more to change before it tells.
const settleTime = 100 * time.Millisecond

// lookEvery is how soon it is noticed that the transit namespace is another one.
const lookEvery = 2 * time.Second

// watched are the multicast groups, by netlink's family, that speak of what a node counts
// on: addresses, links and routes of the host, and rules.
var (
	watchedHost = map[int]uint32{
		unix.NETLINK_ROUTE:     groups(unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR, unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE),
		unix.NETLINK_NETFILTER: groups(unix.NFNLGRP_NFTABLES),
	}
	watchedTransit = map[int]uint32{unix.NETLINK_NETFILTER: groups(unix.NFNLGRP_NFTABLES)}
)

func groups(numbers ...int) (mask uint32) {
	for _, n := range numbers {
		mask |= 1 << (n - 1)
	}
	return mask
}

// Watch calls changed soon after the host's network or anybody's rules have changed, until
// ctx ends or the transit namespace is another one. It may call it for nothing, and does so
// once it listens: what had changed since the caller looked last, nobody would tell it. The
// node must have a network.
func Watch(ctx context.Context, cfg *config.Config, changed func()) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	ticks := make(chan struct{}, 1)
	var conns []*netlink.Conn
	defer func() {
		for _, c := range conns {
			_ = c.Close()
		}
	}()
	for path, families := range map[string]map[int]uint32{hostNS: watchedHost, Path(cfg): watchedTransit} {
		for family, mask := range families {
			c, err := subscribe(path, family, mask)
			if err != nil {
				return fmt.Errorf("watch the network: %w", err)
			}
			conns = append(conns, c)
			go func() { cancel(listen(c, ticks)) }()
		}
	}
	inode, err := netns.ID(Path(cfg))
	if err != nil {
		return fmt.Errorf("watch the network: %w", err)
	}
	tick(ticks)
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-look.C:
			// By its sockets alone the namespace would live on, with its links.
			if now, err := netns.ID(Path(cfg)); err != nil || now != inode {
				return errors.Join(errors.New("the transit namespace is another one"), err)
			}
			continue
		case <-ticks:
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(settleTime):
		}
		select {
		case <-ticks:
		default:
		}
		changed()
	}
}

func subscribe(path string, family int, mask uint32) (*netlink.Conn, error) {
	ns, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer ns.Close()
	return netlink.Dial(family, &netlink.Config{NetNS: int(ns.Fd()), Groups: mask})
}

// listen ticks for each message. That some were lost is a message, too.
func listen(c *netlink.Conn, ticks chan<- struct{}) error {
	for {
		if _, err := c.Receive(); err != nil && !errors.Is(err, unix.ENOBUFS) {
			return err
		}
		tick(ticks)
	}
}

// tick never waits: one that nobody has heard yet stands for all.
func tick(ticks chan<- struct{}) {
	select {
	case ticks <- struct{}{}:
	default:
	}
}
