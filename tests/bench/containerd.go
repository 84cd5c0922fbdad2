package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"sync"
	"time"

	runcoptions "github.com/containerd/containerd/api/types/runc/options"
	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/cio"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/containerd/v2/pkg/oci"

	"brig/internal/sandbox"
	"brig/tests/peer"
)

// shimRuntime is a shim under the node's containerd, driven by this resident client.
type shimRuntime struct {
	name        string // of its variant
	ours        bool
	runtime     string // a name, or the path of a shim
	options     any
	annotations map[string]string
	spec        []oci.SpecOpts // more of them
}

// runtimes are the peers' and ours; the peers' state goes to the node's folder, too.
func (n *testNode) runtimes() ([]shimRuntime, error) {
	all := []shimRuntime{
		{name: runcShim, runtime: "io.containerd.runc.v2", options: &runcoptions.Options{
			BinaryName: filepath.Join(n.bin, "deps", "runc"), Root: filepath.Join(n.dir, "runc"),
		}},
		{name: brigShim, ours: true, runtime: sandbox.Runtime},
	}
	if n.peer == "" {
		return all, nil
	}
	path := filepath.Join(n.dir, "gvisor-shim.toml")
	c := peer.Config{Runsc: filepath.Join(n.bin, "deps", "runsc"), Root: n.peerRoot()}
	return append(all, shimRuntime{
		name: gvisorShim, runtime: n.peer, options: peer.Options(path), annotations: peer.Annotations(),
	}), c.Write(path)
}

// task makes a container of argv and its task, not started. remove undoes both,
// killing what runs.
func (n *testNode) task(ctx context.Context, r shimRuntime, output io.Writer, argv ...string) (_ client.Task, remove func() error, _ error) {
	id := string(sandbox.NewID())
	opts := []oci.SpecOpts{oci.WithImageConfig(n.image), oci.WithProcessArgs(argv...), oci.WithAnnotations(r.annotations)}
	container, err := n.containerd.NewContainer(ctx, id,
		client.WithImage(n.image), client.WithNewSnapshot(id, n.image), client.WithRuntime(r.runtime, r.options),
		client.WithNewSpec(append(opts, r.spec...)...))
	if err != nil {
		return nil, nil, err
	}
	task, err := container.NewTask(ctx, n.streams(output))
	if err != nil {
		return nil, nil, errors.Join(err, container.Delete(ctx, client.WithSnapshotCleanup))
	}
	return task, func() error {
		_, err := task.Delete(ctx, client.WithProcessKill)
		return errors.Join(err, container.Delete(ctx, client.WithSnapshotCleanup))
	}, nil
}

// streams go through FIFOs in the node's folder, so that nothing of them is left.
func (n *testNode) streams(output io.Writer) cio.Creator {
	return cio.NewCreator(cio.WithStreams(nil, output, io.Discard), cio.WithFIFODir(filepath.Join(n.dir, "fifo")))
}

// talks writes something and stays, because gVisor's shim loses the status of a program
// that does not.
var talks = []string{"/bin/sh", "-c", "echo hi; exec sleep 3600"}

// createToOutput takes the time from asking for a container to the first byte that its
// program wrote.
func (n *testNode) createToOutput(r shimRuntime) making {
	return func(ctx context.Context) (took time.Duration, remove func() error, err error) {
		ctx = namespaces.WithNamespace(ctx, benchNamespace)
		first := newFirstWrite()
		began := time.Now()
		task, remove, err := n.task(ctx, r, first, talks...)
		if err != nil {
			return 0, nothing, err
		}
		if _, err := task.Wait(ctx); err != nil {
			return 0, remove, err
		}
		if err := task.Start(ctx); err != nil {
			return 0, remove, err
		}
		took, err = first.since(ctx, began)
		return took, remove, err
	}
}

// idle starts a task that execs can run in.
func (n *testNode) idle(ctx context.Context, r shimRuntime) (client.Task, func() error, error) {
	ctx = namespaces.WithNamespace(ctx, benchNamespace)
	task, remove, err := n.task(ctx, r, io.Discard, "/bin/sleep", "3600")
	if err != nil {
		return nil, nil, err
	}
	if err := task.Start(ctx); err != nil {
		return nil, nil, errors.Join(err, remove())
	}
	return task, remove, nil
}

// execRoundTrip takes the time of one program in a running task, from asking for it
// to having removed it.
func (n *testNode) execRoundTrip(namespace string, task client.Task) func(context.Context) (time.Duration, error) {
	return func(ctx context.Context) (time.Duration, error) {
		ctx = namespaces.WithNamespace(ctx, namespace)
		spec, err := task.Spec(ctx)
		if err != nil {
			return 0, err
		}
		process := *spec.Process
		process.Args = []string{"/bin/true"}
		began := time.Now()
		p, err := task.Exec(ctx, string(sandbox.NewID()), &process, n.streams(io.Discard))
		if err != nil {
			return 0, err
		}
		status, err := p.Wait(ctx)
		if err != nil {
			return 0, err
		}
		if err := p.Start(ctx); err != nil {
			return 0, err
		}
		exit := <-status
		if _, err := p.Delete(ctx, client.WithProcessKill); err != nil {
			return 0, err
		}
		took := time.Since(began)
		if exit.ExitCode() != 0 || exit.Error() != nil {
			return 0, fmt.Errorf("true ended with %d: %w", exit.ExitCode(), exit.Error())
		}
		return took, nil
	}
}

// firstWrite remembers when it was first written to.
type firstWrite struct {
	once sync.Once
	done chan struct{}
	at   time.Time
}

func newFirstWrite() *firstWrite { return &firstWrite{done: make(chan struct{})} }

func (f *firstWrite) Write(p []byte) (int, error) {
	f.once.Do(func() { f.at = time.Now(); close(f.done) })
	return len(p), nil
}

func (f *firstWrite) since(ctx context.Context, began time.Time) (time.Duration, error) {
	select {
	case <-f.done:
		return f.at.Sub(began), nil
	case <-ctx.Done():
		return 0, ctx.Err()
	case <-time.After(30 * time.Second):
		return 0, errors.New("no output within 30 s")
	}
}
