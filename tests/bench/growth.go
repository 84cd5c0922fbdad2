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

// grows is the name of a measure that is taken among more and more sandboxes.
func grows(what string) string { return "among idle sandboxes: " + what }

// growing are brigd's operations whose cost may grow with the sandboxes that there are.
var growing = []string{"create → first output", "exec round trip", "list", "policy change"}

// measureGrowth takes brigd's operations among more and more idle sandboxes; and kills it
// under them and starts it again: until it answers a list, until it has brought the node
// in line, and what memory it holds then.
func measureGrowth(ctx context.Context, n *testNode, o options, rng *rand.Rand, progress io.Writer) (all []series, err error) {
	var ids []string
	defer func() { err = errors.Join(err, n.removeAll(context.WithoutCancel(ctx), ids)) }()
	for i, size := range o.sizes {
		if ids, err = n.moreIdle(ctx, ids, size); err != nil {
			return merge(all), err
		}
		fmt.Fprintf(progress, "%d idle sandboxes\n", size)
		at, ours := fmt.Sprintf("at %d", size), i > 0 // compared with the smallest
		some, err := n.operations(ctx, ids[0], at, ours, o.rounds, rng, progress)
		all = append(all, some...)
		if err != nil {
			return merge(all), err
		}
		some, err = n.restarts(ctx, at, ours, o.restarts, progress)
		all = append(all, some...)
		if err != nil {
			return merge(all), err
		}
	}
	return merge(all), nil
}

// operations among the sandboxes that there are; execs and policies are one sandbox's.
func (n *testNode) operations(ctx context.Context, id, at string, ours bool, rounds int, rng *rand.Rand, progress io.Writer) ([]series, error) {
	does := []once{
		making(n.agentCreateToOutput).once,
		n.agentExec(id),
		n.listing,
		n.changing(id),
	}
	all := make([]series, len(growing))
	for i, what := range growing {
		all[i] = series{measure: grows(what), variant: at, unit: "ms", ours: ours}
	}
	err := interleave(ctx, rng, len(does), 1+rounds, grows(at), progress, func(i, round int) {
		took, err := does[i](ctx)
		all[i].take(round, took, time.Millisecond, err)
	})
	return all, err
}

func (n *testNode) listing(ctx context.Context) (time.Duration, error) {
	began := time.Now()
	_, err := n.sandboxes.List(ctx, connect.NewRequest(&brigv1.ListRequest{}))
	return time.Since(began), err
}

// changing gives a sandbox one policy and then another one, until each is in force.
func (n *testNode) changing(id string) once {
	count := 0
	return func(ctx context.Context) (time.Duration, error) {
		count++
		policy := &brigv1.NetworkPolicy{CidrAllowlist: &brigv1.CidrList{Cidrs: []string{fmt.Sprintf("203.0.113.%d/32", count%2)}}}
		began := time.Now()
		_, err := n.sandboxes.SetNetworkPolicy(ctx, connect.NewRequest(&brigv1.SetNetworkPolicyRequest{Sandbox: id, Network: policy}))
		return time.Since(began), err
	}
}

// restarts of brigd.
func (n *testNode) restarts(ctx context.Context, at string, ours bool, count int, progress io.Writer) ([]series, error) {
	made, _, err := memory(n.brigd.Process.Pid)
	if err != nil {
		return nil, err
	}
	all := []series{
		{measure: answers, variant: at, unit: "ms", ours: ours},
		{measure: reconciled, variant: at, unit: "ms", ours: ours},
		{measure: resident, variant: at, unit: "MiB", ours: ours},
		{measure: resident + " of the one before", variant: at, unit: "MiB", ours: ours, samples: []float64{float64(made) / (1 << 20)}},
	}
	for round := range count {
		fmt.Fprintf(progress, "\rrestart %s: %d of %d", at, round+1, count)
		answered, settled, err := n.restart(ctx)
		if err != nil {
			return all, err
		}
		time.Sleep(settle)
		bytes, _, err := memory(n.brigd.Process.Pid)
		if err != nil {
			return all, err
		}
		for i, v := range []float64{float64(answered) / 1e6, float64(settled) / 1e6, float64(bytes) / (1 << 20)} {
			all[i].samples = append(all[i].samples, v)
		}
	}
	fmt.Fprintln(progress)
	return all, nil
}

// growthClaims compare the most sandboxes with the fewest.
func growthClaims(o options) (claims []claim) {
	first, last := fmt.Sprintf("at %d", o.sizes[0]), fmt.Sprintf("at %d", o.largest())
	for _, what := range growing {
		claims = append(claims, claim{says: what + ", as sandboxes are more", of: grows(what), ours: last, peer: first})
	}
	return append(claims, claim{says: "restart, API answers, as sandboxes are more", of: answers, ours: last, peer: first})
}
