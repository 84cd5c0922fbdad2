package defects

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"brig/tests/peer"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/cio"
	"github.com/containerd/containerd/v2/pkg/oci"
	"github.com/containerd/errdefs"
)

// program is what a container runs.
type program struct {
	argv []string
	opts []oci.SpecOpts
	task []client.NewTaskOpts
	// bare leaves out what keeps gVisor's shim from hanging.
	bare bool
	// runtime options; nil: those that the shim is meant to be used with.
	runtime any
}

func sh(script string) program { return program{argv: []string{"sh", "-c", script}} }

// idle is a program that nothing but a signal ends.
var idle = program{argv: []string{"sleep", "1000"}}

// box is a container with its task.
type box struct {
	client.Task
	container client.Container
	n         *node
	output    *output
	exited    <-chan client.ExitStatus
}

// create makes a container and its task, which can be started.
func (n *node) create(ctx context.Context, id string, p program) (*box, error) {
	n.made = append(n.made, id)
	b := &box{n: n, output: new(output)}
	opts := []oci.SpecOpts{oci.WithImageConfig(n.image), oci.WithProcessArgs(p.argv...), oci.WithCgroup(n.cgroup(id))}
	if *gvisor {
		if !p.bare {
			opts = append(opts, oci.WithAnnotations(peer.Annotations()))
		}
		if p.runtime == nil {
			p.runtime = peer.Options(n.path("gvisor.toml"))
		}
	}
	var err error
	b.container, err = n.NewContainer(ctx, id, client.WithImage(n.image), client.WithNewSnapshot(id, n.image),
		client.WithRuntime(n.runtime, p.runtime), client.WithNewSpec(append(opts, p.opts...)...))
	if err != nil {
		return nil, err
	}
	if b.Task, err = b.container.NewTask(ctx, n.streams(b.output), p.task...); err != nil {
		return nil, err
	}
	b.exited, err = b.Wait(ctx)
	return b, err
}

// begin creates a task and starts it.
func (n *node) begin(ctx context.Context, id string, p program) (*box, error) {
	b, err := n.create(ctx, id, p)
	if err != nil {
		return nil, err
	}
	return b, b.Start(ctx)
}

// run returns the status of a program and removes it.
func (n *node) run(ctx context.Context, id string, p program) (uint32, string, error) {
	b, err := n.begin(ctx, id, p)
	if err != nil {
		return 0, "", err
	}
	code, err := ended(ctx, b.exited)
	if err != nil {
		return 0, b.output.String(), err
	}
	_, err = b.Delete(ctx)
	return code, b.output.String(), errors.Join(err, b.container.Delete(ctx, client.WithSnapshotCleanup))
}

// streams go through FIFOs in the node's folder.
func (n *node) streams(to *output) cio.Creator {
	return cio.NewCreator(cio.WithStreams(nil, to, to), cio.WithFIFODir(n.path("fifo")))
}

// ended waits for an exit.
func ended(ctx context.Context, exited <-chan client.ExitStatus) (uint32, error) {
	select {
	case s := <-exited:
		return s.ExitCode(), s.Error()
	case <-ctx.Done():
		return 0, errors.New("it does not end")
	}
}

// exec makes a process in a box, not started.
func (b *box) exec(ctx context.Context, id string, argv ...string) (client.Process, <-chan client.ExitStatus, error) {
	spec, err := b.Spec(ctx)
	if err != nil {
		return nil, nil, err
	}
	process := *spec.Process
	process.Args = argv
	p, err := b.Exec(ctx, id, &process, b.n.streams(b.output))
	if err != nil {
		return nil, nil, err
	}
	exited, err := p.Wait(ctx)
	return p, exited, err
}

// run returns the status of a process in a box.
func (b *box) run(ctx context.Context, id string, argv ...string) (uint32, error) {
	p, exited, err := b.exec(ctx, id, argv...)
	if err != nil {
		return 0, err
	}
	if err := p.Start(ctx); err != nil {
		return 0, err
	}
	code, err := ended(ctx, exited)
	if err != nil {
		return 0, err
	}
	_, err = p.Delete(ctx)
	return code, err
}

// remove a container, its task and its snapshot, whatever they do.
func remove(ctx context.Context, c client.Container) error {
	task, err := c.Task(ctx, nil)
	if err == nil {
		_, err = task.Delete(ctx, client.WithProcessKill)
	}
	if errdefs.IsNotFound(err) {
		err = nil
	}
	return errors.Join(err, c.Delete(ctx, client.WithSnapshotCleanup))
}

// output of a program.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer // guarded by mu
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// await waits for a text.
func (o *output) await(ctx context.Context, text string) error {
	return eventually(ctx, func() error {
		if got := o.String(); !strings.Contains(got, text) {
			return fmt.Errorf("the output is %q, without %q", got, text)
		}
		return nil
	})
}
