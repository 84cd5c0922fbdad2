package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"connectrpc.com/connect"

	brigv1 "brig/nodeagent/api/brig/v1"
)

// step is one operation, once: when its client asked and when it had what it wanted.
type step struct {
	operation  string
	begin, end time.Time
}

// tell writes the trace to out, and to a file in the folder of the output if there is one.
func (c choices) tell(ctx context.Context, out, progress io.Writer) error {
	c.rounds = cmp.Or(c.rounds, tracedRounds)
	about, err := describeMachine(c.options)
	if err != nil {
		return err
	}
	var text bytes.Buffer
	fmt.Fprintln(&text, about)
	if err := runTrace(ctx, c.options, &text, progress); err != nil {
		return err
	}
	name := "trace.txt"
	if c.pool > 0 {
		name = "trace-pool.txt"
	}
	if c.out != "" {
		if err := os.MkdirAll(c.out, 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(c.out, name), text.Bytes(), 0o644); err != nil {
			return err
		}
	}
	_, err = text.WriteTo(out)
	return err
}

// tracedRounds is how many are made unless somebody says how many.
const tracedRounds = 30

// runTrace makes o.rounds sandboxes through brigd, one after the other, runs a program in
// each and removes it, on a node that tells all it does; and writes where the time went.
func runTrace(ctx context.Context, o options, out, progress io.Writer) (err error) {
	spans, err := collect()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, spans.close()) }()
	programs, err := watchPrograms(o.bin)
	if err != nil {
		return err
	}
	defer programs.close()
	spec, err := spans.node(o)
	if err != nil {
		return err
	}
	steps, err := traced(ctx, o, spec, progress)
	if err != nil {
		return err
	}
	for _, operation := range []string{createStep, execStep, deleteStep} {
		newProfile(operation, steps, spans.all(programs.spans()), programs.all()).write(out)
	}
	return nil
}

// traced are the steps of all lives on a node that has ended, and so has sent its last
// spans.
func traced(ctx context.Context, o options, spec nodeSpec, progress io.Writer) (steps []step, err error) {
	if o.pool > 0 {
		spec.overrides += poolOf(o.pool)
	}
	n, err := startNode(ctx, o, spec)
	defer func() { err = errors.Join(err, n.close()) }()
	if err != nil {
		return nil, err
	}
	for round := range 1 + o.rounds {
		life, err := n.tracedLife(ctx, o.pool)
		if err != nil {
			return nil, err
		}
		if round > 0 { // the first loads what the later ones find
			steps = append(steps, life...)
		}
		fmt.Fprintf(progress, "\rtrace: %d of %d", round, o.rounds)
	}
	fmt.Fprintln(progress)
	return steps, nil
}

// The operations that are traced.
const (
	createStep = "create → first output"
	execStep   = "exec of true"
	deleteStep = "delete, by force"
)

// tracedLife is one sandbox from its creation to its end. What a pool does on the side
// is over before each step.
func (n *testNode) tracedLife(ctx context.Context, pool int) (steps []step, err error) {
	if err := n.calm(ctx, pool); err != nil {
		return nil, err
	}
	begin := time.Now()
	created, err := n.sandboxes.Create(ctx, connect.NewRequest(&brigv1.CreateRequest{
		Image: imageName, Argv: []string{"/bin/sh", "-c", "echo hi; exec sleep 3600"},
	}))
	if err != nil {
		return nil, err
	}
	id := created.Msg.GetSandbox().GetId()
	err = n.firstOutput(ctx, id)
	steps = append(steps, step{createStep, begin, time.Now()})
	err = errors.Join(err, n.calm(ctx, pool))
	if err == nil {
		begin = time.Now()
		_, err = n.agentExec(id)(ctx)
		steps = append(steps, step{execStep, begin, time.Now()})
	}
	begin = time.Now()
	err = errors.Join(err, n.removeSandbox(ctx, id))
	return append(steps, step{deleteStep, begin, time.Now()}), err
}

// calm waits until a pool of so many is full; without one there is nothing to wait for.
func (n *testNode) calm(ctx context.Context, pool int) error {
	if pool == 0 {
		return nil
	}
	return n.awaitPool(ctx, pool)
}
