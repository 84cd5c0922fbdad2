package cni

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"brig/internal/attachment"
	"brig/internal/config"
	"brig/internal/netns"
	"brig/internal/transit"
)

// dead is the group of links that wait to be removed. The kernel
// takes some 20 ms to remove one, and hardly longer for all of a group, so a DEL only
// moves its link there and leaves the rest to a reaper.
//
// One reaper at a time works for a node. It holds the lock of a file from before it is
// started until it found, under the node's network lock, that no dead link is left; a
// DEL that finds the lock taken may count on it, because it holds the network lock,
// too. Every DEL makes the file longer by a byte, so the reaper knows without another
// look whether one came while it was at work. A reaper that is done removes the file. One
// that is killed gives up its lock and leaves the file, and the next ADD, DEL or GC
// carries on.
const dead = attachment.DeadGroup

// Starter starts a process of its own that calls Reap. It inherits lock, and the caller
// does not wait for it.
type Starter func(lock *os.File) error

// bury cuts the link, takes its owner's name off it and puts it into the group. One that
// is not there is no error.
func bury(transitPath, link string) (buried bool, err error) {
	err = netns.Do(transitPath, func() error {
		msg := nl.NewIfInfomsg(unix.AF_UNSPEC)
		msg.Change = unix.IFF_UP
		req := nl.NewNetlinkRequest(unix.RTM_SETLINK, unix.NLM_F_ACK)
		req.AddData(msg)
		req.AddData(nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(link)))
		req.AddData(nl.NewRtAttr(unix.IFLA_GROUP, binary.NativeEndian.AppendUint32(nil, dead)))
		req.AddData(nl.NewRtAttr(unix.IFLA_IFALIAS, nil))
		_, err := req.Execute(unix.NETLINK_ROUTE, 0)
		return err
	})
	if errors.Is(err, unix.ENODEV) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("cut link %s: %w", link, err)
	}
	return true, nil
}

// reap removes all dead links of the namespace that it runs in.
func reap(h *netlink.Handle) error {
	_, err := reapGroup(h)
	return err
}

func reapGroup(*netlink.Handle) (some bool, err error) {
	req := nl.NewNetlinkRequest(unix.RTM_DELLINK, unix.NLM_F_ACK)
	req.AddData(nl.NewIfInfomsg(unix.AF_UNSPEC))
	req.AddData(nl.NewRtAttr(unix.IFLA_GROUP, binary.NativeEndian.AppendUint32(nil, dead)))
	_, err = req.Execute(unix.NETLINK_ROUTE, 0)
	if errors.Is(err, unix.ENODEV) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("remove dead links: %w", err)
	}
	return true, nil
}

// reapNow removes all dead links of the node before it returns.
func reapNow(cfg *config.Config) error {
	return handled(transit.Path(cfg), reap)
}

// reapOverdue carries on for a reaper that was killed. The caller holds the network lock.
func reapOverdue(cfg *config.Config, start Starter) {
	if _, err := os.Lstat(reaperLock(cfg)); err == nil {
		_ = haveReaped(cfg, start) // whoever failed to attach over it would be none the better
	}
}

// haveReaped sees to it that dead links will go: by the reaper that is at work, by one
// that it starts, or, if none can be, at once. The caller holds the network lock.
func haveReaped(cfg *config.Config, start Starter) error {
	if start == nil {
		return reapNow(cfg)
	}
	lock, err := os.OpenFile(reaperLock(cfg), os.O_CREATE|os.O_RDWR|os.O_APPEND|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return reapNow(cfg)
	}
	defer lock.Close()
	if _, err := lock.Write([]byte{'.'}); err != nil {
		return reapNow(cfg)
	}
	err = unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil
	}
	if err != nil || start(lock) != nil {
		return reapNow(cfg)
	}
	return nil
}

func reaperLock(cfg *config.Config) string { return filepath.Join(cfg.NetworkDir(), "reaper.lock") }

// Reap removes dead links until there are none. The caller inherited the reaper's lock,
// which is released last. Only to see that it is done it takes the network lock: to
// remove links may take long.
func Reap(ctx context.Context, cfg *config.Config, lock *os.File) error {
	defer lock.Close()
	for {
		before, err := lock.Stat()
		if err != nil {
			return err
		}
		for some := true; some && err == nil; {
			err = handled(transit.Path(cfg), func(h *netlink.Handle) (err error) { some, err = reapGroup(h); return err })
		}
		if err != nil {
			return gone(cfg, err)
		}
		done := false
		err = transit.Locked(ctx, cfg, func(context.Context) error {
			after, err := lock.Stat()
			if done = err == nil && after.Size() == before.Size(); done {
				err = errors.Join(os.Remove(reaperLock(cfg)), lock.Close())
			}
			return err
		})
		if done || err != nil {
			return gone(cfg, err)
		}
	}
}

// gone forgives everything where the node's network was removed meanwhile, and the
// links with it.
func gone(cfg *config.Config, err error) error {
	if !netns.Exists(cfg.TransitName()) {
		return nil
	}
	return err
}
