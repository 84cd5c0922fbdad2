package main

import (
	"context"
	"errors"
	"fmt"
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

// holder starts it, and restoring goes on from the checkpoint of it.
var (
	holder    = &brigv1.CreateRequest{Image: pythonName, Argv: []string{"python3", "-c", holding}}
	restoring = &brigv1.CreateRequest{FromCheckpoint: checkpointName}
)

// measureRestore is the first output of a Python program, started, restored from a
// checkpoint of it, and taken of a pool in which that checkpoint waits, loaded; what one that
// waits costs; and how long taking a checkpoint takes.
func measureRestore(ctx context.Context, s *session, o options) (all []series, err error) {
	n, err := s.node(ctx)
	if err != nil {
		return nil, err
	}
	id, err := n.keepHolder(ctx)
	if err != nil {
		return nil, err
	}
	defer func() {
		ctx := context.WithoutCancel(ctx)
		err = errors.Join(err, n.removeSandbox(ctx, id), n.removeCheckpoint(ctx, checkpointName))
	}()
	held, err := s.startOnce(ctx, nodeSpec{name: "held", overrides: poolOf(1)})
	if err != nil {
		return nil, err
	}
	if err := held.awaitPool(ctx, 1); err != nil {
		return nil, err
	}
	first, err := held.keepHolder(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, held.removeCheckpoint(context.WithoutCancel(ctx), checkpointName)) }()
	if err := held.removeSandbox(ctx, first); err != nil {
		return nil, err
	}
	waiting := source{name: brigdHeld, make: held.requesting(restoring), refill: held.refilled(1)}
	if err := held.awaitHeld(ctx, waiting); err != nil {
		return nil, err
	}
	before, err := held.figure(ctx, poolTaken)
	if err != nil {
		return nil, err
	}
	m := measure{name: restored, variants: []variant{
		{name: brigd, once: n.requesting(holder).once},
		{name: brigdRestored, ours: true, once: n.requesting(restoring).once},
		{name: brigdHeld, ours: true, once: waiting.once},
	}}
	if all, err = m.run(ctx, s.rng, o.rounds, s.progress); err != nil {
		return all, err
	}
	after, err := held.figure(ctx, poolTaken)
	if err != nil {
		return all, err
	}
	if want := before + float64(1+o.rounds); after != want {
		return all, fmt.Errorf("%v of %d restores took of the pool: the figure is not what its name says", after-before, 1+o.rounds)
	}
	cost, err := held.waitingCost(brigdHeld)
	if err != nil {
		return all, err
	}
	taken, err := n.measureTaking(ctx, s, id, (o.rounds+2)/3)
	return append(append(all, cost...), taken...), err
}

// keepHolder makes a sandbox of the program, and the checkpoint of it.
func (n *testNode) keepHolder(ctx context.Context) (id string, err error) {
	if _, err := n.provide(ctx, pythonName, agentNamespace); err != nil {
		return "", err
	}
	created, err := n.sandboxes.Create(ctx, connect.NewRequest(holder))
	if err != nil {
		return "", err
	}
	id = created.Msg.GetSandbox().GetId()
	if err = n.firstOutput(ctx, id); err == nil {
		_, err = n.checkpoint(ctx, id, checkpointName)
	}
	if err != nil {
		err = errors.Join(err, n.removeSandbox(context.WithoutCancel(ctx), id))
	}
	return id, err
}

// awaitHeld restores until what is restored was waiting: the pool learns what is asked for.
func (n *testNode) awaitHeld(ctx context.Context, x source) error {
	for deadline := time.Now().Add(fillPatience); time.Now().Before(deadline); {
		before, err := n.figure(ctx, poolTaken)
		if err != nil {
			return err
		}
		if _, err := x.once(ctx); err != nil {
			return err
		}
		after, err := n.figure(ctx, poolTaken)
		if err != nil {
			return err
		}
		if after > before {
			return nil
		}
		time.Sleep(settle / 4) // until what is not asked for has made room
	}
	return errors.New("no checkpoint waits in the pool")
}

// measureTaking is how long a checkpoint of a sandbox takes.
func (n *testNode) measureTaking(ctx context.Context, s *session, id string, rounds int) ([]series, error) {
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
	return taking.run(ctx, s.rng, rounds, s.progress)
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
