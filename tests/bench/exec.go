package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"time"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/cio"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"google.golang.org/protobuf/types/known/durationpb"

	"brig/internal/sandbox"
	brigv1 "brig/nodeagent/api/brig/v1"
)

// agentTask is a sandbox of brigd's that execs can run in, and the same sandbox as
// containerd's client sees it.
func (n *testNode) agentTask(ctx context.Context) (id string, task client.Task, remove func() error, err error) {
	if id, err = n.agentIdle(ctx); err != nil {
		return "", nil, nil, err
	}
	remove = func() error { return n.removeSandbox(context.WithoutCancel(ctx), id) }
	container, err := n.containerd.LoadContainer(namespaces.WithNamespace(ctx, agentNamespace), id)
	if err != nil {
		return "", nil, nil, errors.Join(err, remove())
	}
	if task, err = container.Task(namespaces.WithNamespace(ctx, agentNamespace), nil); err != nil {
		return "", nil, nil, errors.Join(err, remove())
	}
	return id, task, remove, nil
}

// execVariants are everybody's ways to run true in a sandbox that is there already. remove
// is never nil.
func (n *testNode) execVariants(ctx context.Context) (variants []variant, remove func() error, err error) {
	var removes []func() error
	remove = func() (err error) {
		for _, r := range removes {
			err = errors.Join(err, r())
		}
		return err
	}
	runtimes, err := n.runtimes()
	if err != nil {
		return nil, remove, err
	}
	for _, r := range runtimes {
		task, end, err := n.idle(ctx, r)
		if err != nil {
			return nil, remove, fmt.Errorf("%s: %w", r.name, err)
		}
		removes = append(removes, end)
		variants = append(variants, variant{name: r.name, ours: r.ours, once: n.execRoundTrip(benchNamespace, task)})
	}
	id, err := n.agentIdle(ctx)
	if err != nil {
		return nil, remove, err
	}
	removes = append(removes, func() error { return n.removeSandbox(context.WithoutCancel(ctx), id) })
	return append(variants, variant{name: brigd, ours: true, once: n.agentExec(id)}), remove, nil
}

// measureExec is the round trip of a program that does nothing.
func measureExec(ctx context.Context, n *testNode, o options, rng *rand.Rand, progress io.Writer) (_ []series, err error) {
	variants, remove, err := n.execVariants(ctx)
	defer func() { err = errors.Join(err, remove()) }()
	if err != nil {
		return nil, err
	}
	return measure{name: execed, variants: variants}.run(ctx, rng, o.rounds, progress)
}

// measureOverhead runs true in one sandbox through brigd and through containerd's resident
// client, which both then wait for its end and remove it. The overhead is the difference
// of the two in a round.
func measureOverhead(ctx context.Context, n *testNode, o options, rng *rand.Rand, progress io.Writer) (_ []series, err error) {
	id, task, remove, err := n.agentTask(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, remove()) }()
	m := measure{name: overhead, variants: []variant{
		{name: "containerd's client", once: n.execRoundTrip(agentNamespace, task)},
		{name: brigd, ours: true, once: n.agentExec(id)},
	}}
	all, err := m.run(ctx, rng, often*o.rounds, progress)
	if err != nil {
		return nil, err
	}
	added := series{measure: m.name + ", added", variant: brigd, unit: all[1].unit}
	for i := range min(len(all[0].samples), len(all[1].samples)) {
		added.samples = append(added.samples, all[1].samples[i]-all[0].samples[i])
	}
	return append(all, added), nil
}

// measureOutput takes how fast what one program writes comes out of a sandbox, from the
// first byte to the last: through brigd to its Go client, which a journal lies between, and
// through the pipes and the FIFO that the shim gives containerd's client, drained by a plain
// loop of reads. The program is the same in the same sandbox. More is better.
func measureOutput(ctx context.Context, n *testNode, o options, rng *rand.Rand, progress io.Writer) (_ []series, err error) {
	id, task, remove, err := n.agentTask(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, remove()) }()
	argv := []string{"/bin/dd", "if=/dev/zero", "bs=64k", fmt.Sprintf("count=%d", o.bytes>>16)}
	all := []series{
		{measure: stdout, variant: rawPipe, unit: "MiB/s"},
		{measure: stdout, variant: brigd, unit: "MiB/s", ours: true},
	}
	ways := []func(context.Context, []string) (int, time.Duration, error){n.rawOutput(task), n.agentOutput(id)}
	err = interleave(ctx, rng, len(all), 1+o.rounds, stdout, progress, func(i, round int) {
		size, took, err := ways[i](ctx, argv)
		if err == nil && size != o.bytes {
			err = fmt.Errorf("%d bytes of %d", size, o.bytes)
		}
		switch {
		case round == 0:
		case err != nil:
			all[i].failures = append(all[i].failures, err)
		default:
			all[i].samples = append(all[i].samples, float64(size)/(1<<20)/took.Seconds())
		}
	})
	return all, err
}

// agentOutput drains a program's stdout through brigd.
func (n *testNode) agentOutput(id string) func(context.Context, []string) (int, time.Duration, error) {
	return func(ctx context.Context, argv []string) (size int, took time.Duration, err error) {
		stream := n.exec.Stream(ctx)
		defer func() { err = errors.Join(err, stream.CloseRequest(), stream.CloseResponse()) }()
		start := &brigv1.ExecStart{Exec: &brigv1.ExecSpec{Sandbox: id, Argv: argv, Timeout: durationpb.New(time.Minute)}}
		if err := stream.Send(&brigv1.ExecStreamRequest{Message: &brigv1.ExecStreamRequest_Start{Start: start}}); err != nil {
			return 0, 0, err
		}
		var began, ended time.Time
		for {
			m, err := stream.Receive()
			if err != nil {
				return size, 0, err
			}
			switch m := m.GetMessage().(type) {
			case *brigv1.ExecStreamResponse_Output:
				if m.Output.GetChannel() != brigv1.Channel_CHANNEL_STDOUT {
					continue
				}
				if size == 0 {
					began = time.Now()
				}
				size, ended = size+len(m.Output.GetData()), time.Now()
			case *brigv1.ExecStreamResponse_Exit:
				return size, ended.Sub(began), nil
			}
		}
	}
}

// rawOutput drains it through a FIFO of containerd's client.
func (n *testNode) rawOutput(task client.Task) func(context.Context, []string) (int, time.Duration, error) {
	return func(ctx context.Context, argv []string) (size int, took time.Duration, err error) {
		ctx = namespaces.WithNamespace(ctx, agentNamespace)
		spec, err := task.Spec(ctx)
		if err != nil {
			return 0, 0, err
		}
		process := *spec.Process
		process.Args = argv
		drained := &drain{ended: make(chan struct{})}
		p, err := task.Exec(ctx, string(sandbox.NewID()), &process, func(id string) (cio.IO, error) {
			fifos, err := cio.NewFIFOSetInDir(n.dir, id, false)
			if err != nil {
				return nil, err
			}
			direct, err := cio.NewDirectIO(context.WithoutCancel(ctx), fifos)
			if err != nil {
				return nil, err
			}
			go drained.read(direct.Stdout)
			go func() { _, _ = io.Copy(io.Discard, direct.Stderr) }()
			return direct, nil
		})
		if err != nil {
			return 0, 0, err
		}
		status, err := p.Wait(ctx)
		if err != nil {
			return 0, 0, err
		}
		if err := p.Start(ctx); err != nil {
			return 0, 0, err
		}
		<-status
		<-drained.ended
		_, err = p.Delete(ctx, client.WithProcessKill)
		return drained.size, drained.last.Sub(drained.first), err
	}
}

// drain is a plain loop of reads.
type drain struct {
	size        int
	first, last time.Time
	ended       chan struct{}
}

func (d *drain) read(from io.Reader) {
	defer close(d.ended)
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 && d.size == 0 {
			d.first = time.Now()
		}
		if n > 0 {
			d.size, d.last = d.size+n, time.Now()
		}
		if err != nil {
			return
		}
	}
}
