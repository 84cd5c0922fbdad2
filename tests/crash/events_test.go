package crash

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/containerd/containerd/api/events"
	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/typeurl/v2"
)

// recorder keeps what containerd's subscribers are told of the ends of tasks.
type recorder struct {
	n *node

	mu    sync.Mutex
	exits map[string][]uint32 // by the id of the container or exec
}

func newRecorder(n *node) *recorder { return &recorder{n: n, exits: map[string][]uint32{}} }

// follow listens until containerd ends.
func (r *recorder) follow(c *client.Client) {
	ctx := namespaces.WithNamespace(context.Background(), r.n.namespace())
	messages, errs := c.Subscribe(ctx, `topic=="/tasks/exit"`)
	go func() {
		for {
			select {
			case m := <-messages:
				v, err := typeurl.UnmarshalAny(m.Event)
				if e, ok := v.(*events.TaskExit); err == nil && ok {
					r.mu.Lock()
					r.exits[e.ID] = append(r.exits[e.ID], e.ExitStatus)
					r.mu.Unlock()
				}
			case <-errs:
				return
			}
		}
	}()
}

func (r *recorder) of(id string) []uint32 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.exits[id]
}

// want waits for the exit event of id. containerd may tell one twice; never two
// different ones.
func (r *recorder) want(t *testing.T, id string, code uint32) {
	t.Helper()
	eventually(t, settleTime, func() error {
		if got := r.of(id); len(got) == 0 {
			return fmt.Errorf("no exit event of %s", id)
		}
		return nil
	})
	for _, got := range r.of(id) {
		if got != code {
			t.Errorf("exit events of %s: %v, want %d", id, r.of(id), code)
			return
		}
	}
}

// eventually tries every 20 ms until it succeeds, and fails with the last error.
func eventually(t *testing.T, patience time.Duration, try func() error) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Errorf("not within %v: %v", patience, err)
			return
		}
	}
}
