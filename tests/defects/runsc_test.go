package defects

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/containerd/api/services/tasks/v1"
)

// Defect 6.
func TestASlowCreateDelaysNobody(t *testing.T) {
	judge(t, func(ctx context.Context, n *node) error {
		if err := os.WriteFile(n.path("slow"), nil, 0o600); err != nil {
			return err
		}
		created := make(chan error, 1)
		go func() {
			_, err := n.create(ctx, "a", idle)
			created <- err
		}()
		err := eventually(ctx, func() error {
			if len(n.calls()) == 0 {
				return errors.New("runsc create does not run")
			}
			return nil
		})
		if err != nil {
			return err
		}
		began := time.Now()
		// containerd asks every shim for the state of its task.
		_, errList := n.TaskService().List(ctx, &tasks.ListTasksRequest{})
		took := time.Since(began)
		if took > time.Second {
			errList = errors.Join(errList, fmt.Errorf("a list of all tasks took %v", took))
		}
		return errors.Join(errList, <-created, os.Remove(n.path("slow")))
	})
}

// Defect 12.
func TestFewProcesses(t *testing.T) {
	t.Run("for a sandbox", func(t *testing.T) {
		judge(t, func(ctx context.Context, n *node) error {
			_, _, err := n.run(ctx, "a", sh("sleep 0.3"))
			if calls := n.calls(); len(calls) > 3 { // create, start, delete
				err = errors.Join(err, fmt.Errorf("runsc runs %d times:\n%s", len(calls), strings.Join(calls, "")))
			}
			return err
		})
	})
	t.Run("for an exec", func(t *testing.T) {
		judge(t, func(ctx context.Context, n *node) error {
			b, err := n.begin(ctx, "a", idle)
			if err != nil {
				return err
			}
			time.Sleep(200 * time.Millisecond) // for what a start leaves to do
			before := len(n.calls())
			if _, err := b.run(ctx, "x", "true"); err != nil {
				return err
			}
			if calls := n.calls()[before:]; len(calls) > 0 {
				return fmt.Errorf("runsc runs %d times:\n%s", len(calls), strings.Join(calls, ""))
			}
			return nil
		})
	})
	t.Run("for a sandbox at rest", func(t *testing.T) {
		judge(t, func(ctx context.Context, n *node) error {
			if _, err := n.begin(ctx, "a", idle); err != nil {
				return err
			}
			time.Sleep(200 * time.Millisecond)
			for _, cmdline := range n.processes() {
				if strings.Contains(cmdline, " wait ") {
					return fmt.Errorf("a process stays and waits: %s", cmdline)
				}
			}
			return nil
		})
	})
}

// Defect 14.
func TestRunscIsCalledTheSameWayEachTime(t *testing.T) {
	o := options{flags: map[string]string{"net-raw": "false", "strace": "false", "watchdog-action": "log", "file-access": "exclusive", "alsologtostderr": "false"}}
	judgeOn(t, o, func(ctx context.Context, n *node) error {
		const sandboxes = 6
		var ways []string
		for i := range sandboxes {
			id := fmt.Sprint("sandbox-", i)
			if _, err := n.create(ctx, id, idle); err != nil {
				return err
			}
			calls := n.calls()
			way := strings.ReplaceAll(calls[len(calls)-1], id, "ID")
			if !slices.Contains(ways, way) {
				ways = append(ways, way)
			}
		}
		if len(ways) > 1 {
			return fmt.Errorf("%d ways to call runsc create:\n%s", len(ways), strings.Join(ways, ""))
		}
		return nil
	})
}

// calls of runsc up to now, their arguments in a line.
func (n *node) calls() []string {
	data, _ := os.ReadFile(n.path("calls")) // not there before the first
	return slices.Collect(strings.Lines(string(data)))
}
