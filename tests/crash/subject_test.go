package crash

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"brig/internal/sandbox"

	"github.com/containerd/containerd/v2/client"
	api "github.com/containerd/containerd/v2/core/sandbox"
	"github.com/containerd/containerd/v2/pkg/cio"
	"github.com/containerd/containerd/v2/pkg/oci"
	"github.com/containerd/errdefs"
	"github.com/containerd/typeurl/v2"
	"google.golang.org/protobuf/types/known/emptypb"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// blocked is what sandboxes are annotated with: these tests need no network.
var blocked = map[string]string{sandbox.AnnotationBlockNetwork: "true"}

// pod is a sandbox of the Sandbox API.
type pod struct {
	n  *node
	id string
}

func (n *node) newPod() *pod {
	p := &pod{n: n, id: string(sandbox.NewID())}
	n.ids.Store(p.id, nil)
	return p
}

func (p *pod) controller() api.Controller { return p.n.client.SandboxController("shim") }

// create plans the pod: its shim is there then.
func (p *pod) create(ctx context.Context) error {
	options, err := typeurl.MarshalAny(new(emptypb.Empty))
	if err != nil {
		return err
	}
	info := api.Sandbox{ID: p.id, Sandboxer: "shim", Runtime: api.RuntimeOpts{Name: sandbox.Runtime, Options: options}}
	if _, err := p.n.client.SandboxStore().Create(ctx, info); err != nil {
		return err
	}
	return p.controller().Create(ctx, info, api.WithOptions(&cri.PodSandboxConfig{
		Metadata: &cri.PodSandboxMetadata{Name: p.id}, Hostname: "pod", Annotations: blocked,
		Linux: &cri.LinuxPodSandboxConfig{CgroupParent: "/" + p.n.namespace()},
	}))
}

func (p *pod) start(ctx context.Context) error {
	_, err := p.controller().Start(ctx, p.id)
	return err
}

// remove ends what is left of the pod. While containerd cleans up after a shim that died,
// its answer is an error.
func (p *pod) remove(ctx context.Context) error {
	err := p.controller().Shutdown(ctx, p.id)
	for range 50 {
		if err == nil || errdefs.IsNotFound(err) {
			err = nil
			break
		}
		time.Sleep(20 * time.Millisecond)
		err = p.controller().Shutdown(ctx, p.id)
	}
	if errStore := p.n.client.SandboxStore().Delete(ctx, p.id); !errdefs.IsNotFound(errStore) {
		err = errors.Join(err, errStore)
	}
	return err
}

// container is a container, and its task once it is created.
type container struct {
	client.Container
	n    *node
	id   string
	task client.Task
}

// option changes a container before it is made.
type option func(*wish)

type wish struct {
	pod     *pod
	options any // the runtime's
}

func in(p *pod) option         { return func(w *wish) { w.pod = p } }
func withOptions(o any) option { return func(w *wish) { w.options = o } }

// container makes one without a task, removed when t ends.
func (n *node) container(t testing.TB, argv []string, options ...option) *container {
	t.Helper()
	c, err := n.newContainer(n.call(t), string(sandbox.NewID()), argv, options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.remove(); err != nil {
			t.Errorf("remove %s: %v", c.id, err)
		}
	})
	return c
}

func (n *node) newContainer(ctx context.Context, id string, argv []string, options ...option) (*container, error) {
	n.ids.Store(id, nil)
	var w wish
	for _, o := range options {
		o(&w)
	}
	spec := client.WithNewSpec(oci.WithImageConfig(n.image), oci.WithProcessArgs(argv...), oci.WithAnnotations(blocked),
		oci.WithCgroup("/"+n.namespace()+"/"+id))
	opts := []client.NewContainerOpts{
		client.WithImage(n.image), client.WithNewSnapshot(id, n.image), client.WithRuntime(sandbox.Runtime, w.options),
	}
	if w.pod != nil {
		opts = append(opts, client.WithSandbox(w.pod.id))
	}
	c, err := n.client.NewContainer(ctx, id, append(opts, spec)...)
	return &container{Container: c, n: n, id: id}, err
}

// streams go through FIFOs in the node's folder.
func (n *node) streams(stdin io.Reader, stdout io.Writer) cio.Creator {
	return cio.NewCreator(cio.WithStreams(stdin, stdout, io.Discard), cio.WithFIFODir(filepath.Join(n.dir, "fifo")))
}

func (c *container) create(ctx context.Context) error {
	return c.createWith(ctx, c.n.streams(nil, io.Discard))
}

func (c *container) createWith(ctx context.Context, io cio.Creator) (err error) {
	c.task, err = c.NewTask(ctx, io)
	return err
}

// started is a container whose program runs.
func (n *node) started(t testing.TB, argv []string, options ...option) *container {
	t.Helper()
	c := n.container(t, argv, options...)
	if err := c.create(n.call(t)); err != nil {
		t.Fatal(err)
	}
	if err := c.task.Start(n.call(t)); err != nil {
		t.Fatal(err)
	}
	return c
}

// pod is one that runs, removed when t ends.
func (n *node) pod(t testing.TB) *pod {
	t.Helper()
	p := n.newPod()
	t.Cleanup(func() {
		if err := p.remove(n.call(t)); err != nil {
			t.Errorf("remove pod: %v", err)
		}
		if err := n.settle(p.id); err != nil {
			t.Error(err)
		}
	})
	if err := p.create(n.call(t)); err != nil {
		t.Fatal(err)
	}
	if err := p.start(n.call(t)); err != nil {
		t.Fatal(err)
	}
	return p
}

// exec runs argv to its end and returns its exit status.
func (c *container) exec(ctx context.Context, argv ...string) (code uint32, err error) {
	spec, err := c.Spec(ctx)
	if err != nil {
		return 0, err
	}
	process := *spec.Process
	process.Args = argv
	p, err := c.task.Exec(ctx, string(sandbox.NewID()), &process, c.n.streams(nil, io.Discard))
	if err != nil {
		return 0, err
	}
	exited, err := p.Wait(ctx)
	if err == nil {
		err = p.Start(ctx)
	}
	if err == nil {
		select {
		case e := <-exited:
			code, err = e.ExitCode(), e.Error()
		case <-ctx.Done():
			err = fmt.Errorf("the exec does not end: %w", ctx.Err())
		}
	}
	_, errDelete := p.Delete(ctx, client.WithProcessKill)
	if err == nil {
		err = errDelete
	}
	return code, err
}

// run starts a created task and waits for its end.
func (c *container) run(ctx context.Context) (code uint32, err error) {
	exited, err := c.task.Wait(ctx)
	if err == nil {
		err = c.task.Start(ctx)
	}
	if err != nil {
		return 0, err
	}
	select {
	case e := <-exited:
		return e.ExitCode(), e.Error()
	case <-ctx.Done():
		return 0, fmt.Errorf("the program does not end: %w", ctx.Err())
	}
}

// stop makes sure that the task has ended and returns its exit status; known is false
// when containerd has forgotten the task.
func (c *container) stop(ctx context.Context) (code uint32, known bool, err error) {
	task, err := c.Task(ctx, nil)
	if errdefs.IsNotFound(err) {
		return 0, false, nil
	} else if err != nil {
		return 0, false, fmt.Errorf("load the task: %w", err)
	}
	if err := task.Kill(ctx, syscall.SIGKILL); err != nil && !errdefs.IsNotFound(err) {
		return 0, true, fmt.Errorf("kill: %w", err)
	}
	for {
		status, err := task.Status(ctx)
		switch {
		case errdefs.IsNotFound(err):
			return 0, false, nil
		case err != nil:
			return 0, true, fmt.Errorf("status: %w", err)
		case status.Status == client.Stopped:
			return status.ExitStatus, true, nil
		}
		select {
		case <-ctx.Done():
			return 0, true, fmt.Errorf("the task stays %s: %w", status.Status, ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// deleteTask deletes an ended task; one that nobody knows is no error.
func (c *container) deleteTask(ctx context.Context) error {
	task, err := c.Task(ctx, nil)
	if err == nil {
		_, err = task.Delete(ctx)
	}
	if c.task != nil && c.task.IO() != nil {
		c.task.IO().Cancel()
		_ = c.task.IO().Close() // the client's ends, which were deleted with the task otherwise
	}
	if errdefs.IsNotFound(err) {
		return nil
	}
	return err
}

// remove ends and removes everything of the container. It can be called twice.
func (c *container) remove() error {
	ctx, cancel := c.n.context(context.Background())
	defer cancel()
	_, _, err := c.stop(ctx)
	if err == nil {
		err = c.deleteTask(ctx)
	}
	errDelete := c.Delete(ctx, client.WithSnapshotCleanup)
	if errdefs.IsNotFound(errDelete) {
		errDelete = nil
	}
	return errors.Join(err, errDelete)
}
