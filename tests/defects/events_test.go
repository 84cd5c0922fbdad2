package defects

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	apievents "github.com/containerd/containerd/api/events"
	"github.com/containerd/typeurl/v2"
	"golang.org/x/sys/unix"
)

// Defect 3.
func TestEventsComeInOrder(t *testing.T) {
	judge(t, func(ctx context.Context, n *node) error {
		heard, err := n.listen(ctx)
		if err != nil {
			return err
		}
		b, err := n.begin(ctx, "a", sh("while [ ! -e /tmp/end ]; do sleep 0.05; done; exit 3"))
		if err != nil {
			return err
		}
		if _, err := b.run(ctx, "x", "touch", "/tmp/end"); err != nil {
			return err
		}
		if _, err := ended(ctx, b.exited); err != nil {
			return err
		}
		if _, err := b.Delete(ctx); err != nil {
			return err
		}
		return heard.expect(ctx, "create a", "start a", "exec-added a/x", "exec-started a/x", "exit a/x 0", "exit a 3", "delete a 3")
	})
}

// TestEventsWaitForContainerd is defect 4. The node's containerd comes back with its
// TTRPC socket elsewhere: events that cannot be published yet wait for a listener.
func TestEventsWaitForContainerd(t *testing.T) {
	judge(t, func(ctx context.Context, n *node) error {
		b, err := n.begin(ctx, "a", sh("sleep 1; exit 7"))
		if err != nil {
			return err
		}
		pid := int(b.Pid())
		if err := n.kill(); err != nil {
			return err
		}
		err = eventually(ctx, func() error {
			if unix.Kill(pid, 0) == nil {
				return errors.New("the sandbox does not end")
			}
			return nil
		})
		if err != nil {
			return err
		}
		time.Sleep(500 * time.Millisecond) // for what the shim makes of a failure
		if err := n.start("later"); err != nil {
			return err
		}
		heard, err := n.listen(ctx)
		if err != nil {
			return err
		}
		if err := errors.Join(os.Remove(n.path("ttrpc")), os.Symlink(n.path("later"), n.path("ttrpc"))); err != nil {
			return err
		}
		if err := heard.once(ctx, "exit a 7"); err != nil {
			return err
		}
		c, err := n.LoadContainer(ctx, "a")
		if err != nil {
			return err
		}
		task, err := c.Task(ctx, nil)
		if err != nil {
			return err
		}
		exit, err := task.Delete(ctx)
		if err == nil && exit.ExitCode() != 7 {
			err = fmt.Errorf("status %d, want 7", exit.ExitCode())
		}
		return err
	})
}

// heard collects what containerd tells of tasks.
type heard struct {
	mu  sync.Mutex
	all []string // guarded by mu
}

// listen returns once events arrive; containerd does not say when it has subscribed.
func (n *node) listen(ctx context.Context) (*heard, error) {
	h, hello := new(heard), make(chan struct{})
	arrived, failed := n.Subscribe(ctx, "namespace=="+n.name)
	go func() {
		var once sync.Once
		for {
			select {
			case e := <-arrived:
				v, err := typeurl.UnmarshalAny(e.Event)
				if err != nil {
					panic(err)
				}
				once.Do(func() { close(hello) })
				h.add(v)
			case <-failed:
				return
			}
		}
	}()
	for {
		if err := n.EventService().Publish(ctx, "/defects/hello", &apievents.ImageDelete{Name: "hello"}); err != nil {
			return nil, err
		}
		select {
		case <-hello:
			return h, nil
		case <-ctx.Done():
			return nil, errors.New("containerd tells no events")
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (h *heard) add(event any) {
	var text string
	switch e := event.(type) {
	case *apievents.TaskCreate:
		text = "create " + e.ContainerID
	case *apievents.TaskStart:
		text = "start " + e.ContainerID
	case *apievents.TaskExecAdded:
		text = fmt.Sprintf("exec-added %s/%s", e.ContainerID, e.ExecID)
	case *apievents.TaskExecStarted:
		text = fmt.Sprintf("exec-started %s/%s", e.ContainerID, e.ExecID)
	case *apievents.TaskOOM:
		text = "oom " + e.ContainerID
	case *apievents.TaskExit:
		name := e.ContainerID
		if e.ID != name {
			name += "/" + e.ID
		}
		text = fmt.Sprintf("exit %s %d", name, e.ExitStatus)
	case *apievents.TaskDelete:
		if e.ID != "" && e.ID != e.ContainerID {
			return // an exec's: some shims send it, some do not
		}
		text = fmt.Sprintf("delete %s %d", e.ContainerID, e.ExitStatus)
	default:
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.all = append(h.all, text)
}

// expect waits until the events are these, and forgets them.
func (h *heard) expect(ctx context.Context, want ...string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	err := eventually(ctx, func() error {
		h.mu.Lock()
		defer h.mu.Unlock()
		if !slices.Equal(h.all, want) {
			return fmt.Errorf("events:\n got %s\nwant %s", strings.Join(h.all, ", "), strings.Join(want, ", "))
		}
		return nil
	})
	h.mu.Lock()
	defer h.mu.Unlock()
	h.all = nil
	return err
}

// once waits for an event, which must come once.
func (h *heard) once(ctx context.Context, want string) error {
	return eventually(ctx, func() error {
		h.mu.Lock()
		defer h.mu.Unlock()
		n := len(slices.DeleteFunc(slices.Clone(h.all), func(s string) bool { return s != want }))
		if n != 1 {
			return fmt.Errorf("%d events %q in %s", n, want, strings.Join(h.all, ", "))
		}
		return nil
	})
}
