package crash

import (
	"context"
	"fmt"
	"testing"

	"connectrpc.com/connect"

	brigv1 "brig/nodeagent/api/brig/v1"
	testnode "brig/tests/node"
)

// warm is the checkpoint that waits.
const warm = "warm"

// restore makes a sandbox of it, once for each key.
func (a *agent) restore(ctx context.Context, key string) (id string, err error) {
	res, err := a.Sandboxes.Create(ctx, connect.NewRequest(&brigv1.CreateRequest{FromCheckpoint: warm, RequestId: key}))
	if err != nil {
		return "", err
	}
	return res.Msg.GetSandbox().GetId(), nil
}

// holding returns the one that waits with the checkpoint loaded, once one does: restores
// take it.
func (a *agent) holding(t *testing.T) (id string) {
	t.Helper()
	eventually(t, patience, func() error {
		id = a.waiting(t)
		got, err := a.restore(ask(t), "")
		if err != nil {
			return err
		}
		if err := a.remove(ask(t), got); err != nil {
			return err
		}
		if got != id {
			return fmt.Errorf("%s was restored, and %s waits", got, id)
		}
		id = a.waiting(t)
		return nil
	})
	return id
}

// TestBrigdKilledWhileHolding kills brigd at every step of making a sandbox that waits with a
// checkpoint loaded, and of taking it, and where the checkpoint is removed. After a restart
// a create is whole or absent and can be repeated, the node holds what the records say, and
// what was used, or has lost its checkpoint, does not wait.
func TestBrigdKilledWhileHolding(t *testing.T) {
	t.Parallel()
	a := launchAgent(t, testnode.Options{Failpoints: true, Overrides: "[pool]\nsize = 1\nmax = 1\n"})
	a.waiting(t)
	first := idle(t, a)
	if _, err := a.Sandboxes.Checkpoint(ask(t), connect.NewRequest(&brigv1.CheckpointRequest{Sandbox: first.GetId(), Name: warm})); err != nil {
		t.Fatal(err)
	}
	a.clean(t, first, "")
	for _, point := range []string{
		"create.recorded", "create.files", "create.made", "create.started", "create.settled",
		"pool.recorded", "pool.attached", "restore.held", "create.snapshot", "create.container", "create.task", "pool.booted", "pool.waiting",
	} {
		t.Run(point, func(t *testing.T) {
			held := a.holding(t)
			if err := a.Arm(point); err != nil {
				t.Fatal(err)
			}
			go func() { _, _ = a.restore(ask(t), point) }()
			if err := a.Died(patience); err != nil {
				t.Fatal(err)
			}
			a.restart(t)
			id, err := a.restore(ask(t), point)
			if err != nil {
				t.Fatal(err)
			}
			if err := a.runs(ask(t), id); err != nil {
				t.Errorf("what was restored: %v", err)
			}
			if next := a.waiting(t); next == held {
				t.Errorf("%s waits after it was used", held)
			}
			a.converges(t, patience)
			if err := a.remove(ask(t), id); err != nil {
				t.Error(err)
			}
		})
	}
	t.Run("checkpoint.unnamed", func(t *testing.T) {
		held := a.holding(t)
		if err := a.Arm("checkpoint.unnamed"); err != nil {
			t.Fatal(err)
		}
		go func() {
			_, _ = a.Sandboxes.RemoveCheckpoint(ask(t), connect.NewRequest(&brigv1.RemoveCheckpointRequest{Name: warm}))
		}()
		if err := a.Died(patience); err != nil {
			t.Fatal(err)
		}
		a.restart(t)
		if next := a.waiting(t); next == held {
			t.Errorf("%s waits without its checkpoint", held)
		}
		if _, err := a.restore(ask(t), "again"); connect.CodeOf(err) != connect.CodeNotFound {
			t.Errorf("a restore: %v", err)
		}
		a.converges(t, patience)
	})
}
