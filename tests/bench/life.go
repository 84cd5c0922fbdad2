package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"time"

	"connectrpc.com/connect"

	brigv1 "brig/nodeagent/api/brig/v1"
)

// What is measured of one life after the other.
const (
	lifeCreate = "one at a time: create → first output"
	lifeDelete = "one at a time: delete"
	lifeGone   = "one at a time: delete returned → nothing left"
)

// patienceForEnd is how long something may be left of a deleted sandbox.
const patienceForEnd = 10 * time.Second

// measureLife makes sandboxes one at a time, deletes them by force and looks until nothing
// is left of them.
func measureLife(ctx context.Context, n *testNode, o options, rng *rand.Rand, progress io.Writer) ([]series, error) {
	all := []series{
		{measure: lifeCreate, variant: brigd, unit: "ms", ours: true},
		{measure: lifeDelete, variant: brigd, unit: "ms", ours: true},
		{measure: lifeGone, variant: brigd, unit: "ms", ours: true},
	}
	err := interleave(ctx, rng, 1, 1+o.rounds, wholeLife, progress, func(_, round int) {
		made, deleted, gone, err := n.life(ctx)
		for i, took := range []time.Duration{made, deleted, gone} {
			all[i].take(round, took, time.Millisecond, err)
		}
	})
	return all, err
}

func (n *testNode) life(ctx context.Context) (made, deleted, gone time.Duration, err error) {
	began := time.Now()
	created, err := n.sandboxes.Create(ctx, connect.NewRequest(&brigv1.CreateRequest{Image: imageName, Argv: talks}))
	if err != nil {
		return 0, 0, 0, err
	}
	id := created.Msg.GetSandbox().GetId()
	err = n.firstOutput(ctx, id)
	made = time.Since(began)
	held, errHeld := n.remains(id)
	if err = errors.Join(err, errHeld); err == nil && len(held) < 5 {
		err = fmt.Errorf("of a running sandbox there is only %q", held)
	}
	began = time.Now()
	if err := errors.Join(err, n.removeSandbox(ctx, id)); err != nil {
		return 0, 0, 0, err
	}
	deleted = time.Since(began)
	gone, err = n.awaitNothing(ctx, id)
	return made, deleted, gone, err
}

// awaitNothing returns how long it took until nothing was left of a sandbox.
func (n *testNode) awaitNothing(ctx context.Context, id string) (time.Duration, error) {
	began := time.Now()
	for {
		left, err := n.remains(id)
		if took := time.Since(began); err != nil || len(left) == 0 {
			return took, err
		}
		if time.Since(began) > patienceForEnd {
			return 0, fmt.Errorf("of %s is left: %q", id, left)
		}
		select {
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		case <-time.After(time.Millisecond):
		}
	}
}
