package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"time"

	"brig/internal/netpolicy"
)

// rest lets the kernel forget what the change before has removed: it does that in the
// background, and the next one would wait for it.
const rest = 50 * time.Millisecond

// loadWhat is what is waited for when a list is loaded.
const loadWhat = "the rules, read back"

func bindName(o options) string { return fmt.Sprintf("an existing policy at %d attachments", o.full) }
func loadName(o options) string { return fmt.Sprintf("load %d ranges", o.ranges) }

// measureBind gives a link a policy that other links have, too, on a node with o.full
// attachments: its first one, or one in the place of another. The second measure has
// what the gate does around that: it takes the lock and finds the node's network in
// order.
func measureBind(ctx context.Context, n *networks, o options, rng *rand.Rand, progress io.Writer) ([]series, error) {
	w, err := n.full(ctx)
	if err != nil {
		return nil, err
	}
	other, errOther := w.policy(5, netip.AddrFrom4([4]byte{30}))
	long, errLong := w.policy(o.ranges, longFrom)
	if err := errors.Join(errOther, errLong, w.sandbox(ctx, "keeps", other), w.sandbox(ctx, "binds", other)); err != nil {
		return nil, err
	}
	link := key("binds", "eth0").Link()
	deeds := []struct {
		name string
		do   func(context.Context, string, netpolicy.Policy) (alone, whole time.Duration, err error)
		p    netpolicy.Policy
	}{
		{"bind, a list of %d", w.bind, n.shared},
		{"rebind, a list of %d", w.rebind, n.shared},
		{"rebind, a list of %d", w.rebind, long},
	}
	name := bindName(o)
	var alone, whole []series
	for _, d := range deeds {
		one := series{measure: name, variant: fmt.Sprintf(d.name, len(d.p.Ranges())), unit: "µs", ours: true}
		alone = append(alone, one)
		one.measure += ", the node's network checked"
		whole = append(whole, one)
	}
	err = interleave(ctx, rng, len(deeds), 1+often*o.rounds, name, progress, func(i, round int) {
		_, _, err := w.rebind(ctx, link, other)
		time.Sleep(rest)
		var a, b time.Duration
		if err == nil {
			a, b, err = deeds[i].do(ctx, link, deeds[i].p)
		}
		alone[i].take(round, a, time.Microsecond, err)
		whole[i].take(round, b, time.Microsecond, err)
	})
	return append(alone, whole...), err
}

// measureLoad binds a policy of o.ranges ranges that the node does not have yet.
func measureLoad(ctx context.Context, n *networks, o options, rng *rand.Rand, progress io.Writer) ([]series, error) {
	w, err := n.full(ctx)
	if err != nil {
		return nil, err
	}
	if err := w.sandbox(ctx, "loads", n.shared); err != nil {
		return nil, err
	}
	link, round := key("loads", "eth0").Link(), byte(0)
	once := func(ctx context.Context) (time.Duration, error) {
		round++
		long, err := w.policy(o.ranges, netip.AddrFrom4([4]byte{40 + round%50}))
		if err != nil {
			return 0, err
		}
		took, _, err := w.rebind(ctx, link, long)
		if err != nil {
			return took, err
		}
		_, _, err = w.rebind(ctx, link, n.shared)
		return took, err
	}
	m := measure{name: loadName(o), variants: []variant{{name: loadWhat, ours: true, once: once}}}
	return m.run(ctx, rng, o.rounds, progress)
}
