package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"

	"brig/internal/netns"
	"brig/internal/netpolicy"
)

// often is how much more often than those of a node the network's short measures are
// taken: a p99 needs 200 samples.
const often = 4

// longFrom is where the ranges of the long list begin.
var longFrom = netip.AddrFrom4([4]byte{20})

// networks are the worlds that the measures of the network share; each is made when a
// measure first wants it.
type networks struct {
	o        options
	progress io.Writer
	shared   netpolicy.Policy // that all who only fill a node have
	made     map[string]*world

	linesOfOne, linesOfAll int // of full's rule set, while it was filled
}

// world makes one, or returns what was made under that name.
func (n *networks) world(ctx context.Context, name string, equip func(*world) error) (*world, error) {
	if w := n.made[name]; w != nil {
		return w, nil
	}
	w, err := newWorld(ctx, n.o)
	if n.made == nil {
		n.made = map[string]*world{}
	}
	n.made[name] = w // to be closed, whole or not
	if err == nil {
		n.shared, err = w.policy(3, longFrom)
	}
	if err == nil {
		err = equip(w)
	}
	if err != nil {
		return nil, fmt.Errorf("a node with %s attachments: %w", name, err)
	}
	return w, nil
}

func (n *networks) filled(ctx context.Context, name string, count int) (*world, error) {
	return n.world(ctx, name, func(w *world) error { return w.fill(ctx, count, n.shared, n.progress) })
}

func (n *networks) few(ctx context.Context) (*world, error)  { return n.filled(ctx, "few", n.o.few) }
func (n *networks) many(ctx context.Context) (*world, error) { return n.filled(ctx, "many", n.o.many) }

// full has one more sandbox, whose list is long.
func (n *networks) full(ctx context.Context) (*world, error) {
	return n.world(ctx, "full", func(w *world) (err error) {
		if err := w.fill(ctx, 1, n.shared, io.Discard); err != nil {
			return err
		}
		if n.linesOfOne, err = w.lines(ctx); err != nil {
			return err
		}
		if err := w.fill(ctx, n.o.full, n.shared, n.progress); err != nil {
			return err
		}
		if n.linesOfAll, err = w.lines(ctx); err != nil {
			return err
		}
		long, err := w.policy(n.o.ranges, longFrom)
		if err != nil {
			return err
		}
		return w.sandbox(ctx, "path", long)
	})
}

// bare has one sandbox, and its rules are removed, those of the host, too.
func (n *networks) bare(ctx context.Context) (*world, error) {
	return n.world(ctx, "no", func(w *world) error {
		if err := w.sandbox(ctx, "path", n.shared); err != nil {
			return err
		}
		for _, ns := range []string{w.host(), netns.Path(w.cfg.TransitName())} {
			if err := command(ctx, "", "nsenter", "--net="+ns, "nft", "flush", "ruleset"); err != nil {
				return err
			}
		}
		return nil
	})
}

// upstream is as full of upstream's attachments as the one it is compared with is of
// ours. Each has a namespace of its own: ptp shares none.
func (n *networks) upstream(ctx context.Context) (*world, error) {
	return n.world(ctx, "upstream's", func(w *world) error {
		c := w.upstreamChain(n.o)
		for ; w.filled < n.o.many; w.filled++ {
			name := fmt.Sprint("f", w.filled)
			full, err := w.namespace(name)
			if err != nil {
				return err
			}
			if _, _, err := c.add(ctx, name, netns.Path(full)); err != nil {
				return err
			}
			if w.filled%100 == 99 {
				fmt.Fprintf(n.progress, "\r%d of %d attachments of upstream's", w.filled+1, n.o.many)
			}
		}
		fmt.Fprintln(n.progress)
		return nil
	})
}

// close removes all of them.
func (n *networks) close() error {
	var errs []error
	for _, w := range n.made {
		errs = append(errs, w.close())
	}
	return errors.Join(errs...)
}
