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

// holding is a program that fills 64 MiB, says so, and goes on saying so: whoever
// restores it hears of it within a few milliseconds of its going on.
const holding = `import time
held = bytearray(64 << 20)
for i in range(0, len(held), 4096): held[i] = i >> 12 & 255
while True:
    print("here", flush=True)
    time.sleep(0.002)`

// checkpointName of the one that all are restored from.
const checkpointName = "bench"

// restoreWays are how a checkpoint can be restored through brigd: the default alone, until
// a request may choose.
var restoreWays = []struct {
	name    string
	request *brigv1.CreateRequest
}{
	{brigdRestored, &brigv1.CreateRequest{FromCheckpoint: checkpointName}},
}

// measureRestore is the first output of a Python program, started and restored from a
// checkpoint of it, and how long taking that checkpoint takes.
func measureRestore(ctx context.Context, n *testNode, o options, rng *rand.Rand, progress io.Writer) (_ []series, err error) {
	if _, err := n.provide(ctx, pythonName, agentNamespace); err != nil {
		return nil, err
	}
	cold := &brigv1.CreateRequest{Image: pythonName, Argv: []string{"python3", "-c", holding}}
	created, err := n.sandboxes.Create(ctx, connect.NewRequest(cold))
	if err != nil {
		return nil, err
	}
	id := created.Msg.GetSandbox().GetId()
	defer func() { err = errors.Join(err, n.removeSandbox(context.WithoutCancel(ctx), id)) }()
	if err := n.firstOutput(ctx, id); err != nil {
		return nil, err
	}
	if _, err := n.checkpoint(ctx, id, checkpointName); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, n.removeCheckpoint(context.WithoutCancel(ctx), checkpointName)) }()
	m := measure{name: restored, variants: []variant{{name: brigd, once: n.requesting(cold).once}}}
	for _, w := range restoreWays {
		m.variants = append(m.variants, variant{name: w.name, ours: true, once: n.requesting(w.request).once})
	}
	all, err := m.run(ctx, rng, o.rounds, progress)
	if err != nil {
		return all, err
	}
	count := 0
	taking := measure{name: "checkpoint of Python holding 64 MiB", variants: []variant{{name: brigd, ours: true, once: func(ctx context.Context) (time.Duration, error) {
		count++
		name := fmt.Sprint(checkpointName, "-", count)
		took, err := n.checkpoint(ctx, id, name)
		if err != nil {
			return 0, err
		}
		return took, n.removeCheckpoint(ctx, name)
	}}}}
	more, err := taking.run(ctx, rng, (o.rounds+2)/3, progress)
	return append(all, more...), err
}

// requesting makes sandboxes of a request.
func (n *testNode) requesting(request *brigv1.CreateRequest) making {
	return func(ctx context.Context) (time.Duration, func() error, error) { return n.agentRequest(ctx, request) }
}

func (n *testNode) checkpoint(ctx context.Context, id, name string) (time.Duration, error) {
	began := time.Now()
	_, err := n.sandboxes.Checkpoint(ctx, connect.NewRequest(&brigv1.CheckpointRequest{Sandbox: id, Name: name}))
	return time.Since(began), err
}

func (n *testNode) removeCheckpoint(ctx context.Context, name string) error {
	_, err := n.sandboxes.RemoveCheckpoint(ctx, connect.NewRequest(&brigv1.RemoveCheckpointRequest{Name: name}))
	return err
}
