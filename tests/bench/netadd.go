package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"time"

	"brig/internal/netns"
)

// attacher executes a chain for one namespace after the other.
type attacher struct {
	world *world
	chain chain
	name  string // begins the names of its attachments
	count int
}

// once attaches a namespace that was never attached, and detaches it. The namespace is
// removed with the world: the kernel would take the locks that the next one needs.
func (a *attacher) once(ctx context.Context) (time.Duration, error) {
	name := fmt.Sprint(a.name, a.count)
	a.count++
	full, err := a.world.namespace(name)
	if err != nil {
		return 0, err
	}
	path := netns.Path(full)
	result, took, err := a.chain.add(ctx, name, path)
	if err != nil {
		return took, err
	}
	return took, a.chain.del(ctx, name, path, result)
}

// addFills is the measure of one plugin on two nodes.
const addFills = "ADD as the node fills"

func addName(o options) string { return fmt.Sprintf("ADD at %d attachments", o.many) }

// measureAdd is the plugin against upstream's, each on a node that has o.many
// attachments of its own kind.
func measureAdd(ctx context.Context, n *networks, o options, rng *rand.Rand, progress io.Writer) ([]series, error) {
	ours, errOurs := n.many(ctx)
	theirs, errTheirs := n.upstream(ctx)
	if err := errors.Join(errOurs, errTheirs); err != nil {
		return nil, err
	}
	m := measure{name: addName(o), variants: []variant{
		{name: addDeny, ours: true, once: (&attacher{world: ours, chain: ours.brigChain(nil), name: "d"}).once},
		{name: addPolicy, ours: true, once: (&attacher{world: ours, chain: ours.brigChain(&n.shared), name: "p"}).once},
		{name: addUpstream, once: (&attacher{world: theirs, chain: theirs.upstreamChain(o), name: "u"}).once},
	}}
	return m.run(ctx, rng, often*o.rounds, progress)
}

// measureAddFull is an ADD to a node with o.full attachments against one with o.few.
func measureAddFull(ctx context.Context, n *networks, o options, rng *rand.Rand, progress io.Writer) ([]series, error) {
	few, errFew := n.few(ctx)
	full, errFull := n.full(ctx)
	if err := errors.Join(errFew, errFull); err != nil {
		return nil, err
	}
	m := measure{name: addFills, variants: []variant{
		{name: fmt.Sprintf("at %d", o.few), once: (&attacher{world: few, chain: few.brigChain(&n.shared), name: "p"}).once},
		{name: fmt.Sprintf("at %d", o.full), ours: true, once: (&attacher{world: full, chain: full.brigChain(&n.shared), name: "p"}).once},
	}}
	return m.run(ctx, rng, often*o.rounds, progress)
}
