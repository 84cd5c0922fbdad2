package engine

import (
	"context"
	"errors"
	"strings"

	"github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/containerd/v2/core/snapshots"
)

// Held is one thing that containerd holds in brigd's namespace.
type Held struct {
	Kind string // container, task, snapshot (a writable one), lease or "unfinished snapshot"
	Name string // the sandbox's id, if it is one's
}

// Held lists all of it. It changes nothing.
func (e *Engine) Held(ctx context.Context) (held []Held, err error) {
	ctx = e.in(ctx)
	list, errContainers := e.client.ContainerService().List(ctx)
	for _, c := range list {
		held = append(held, Held{"container", c.ID})
	}
	running, errTasks := e.client.TaskService().List(ctx, &tasks.ListTasksRequest{})
	for _, t := range running.GetTasks() {
		held = append(held, Held{"task", t.ID})
	}
	leases, errLeases := e.client.LeasesService().List(ctx)
	for _, l := range leases {
		if id, ok := strings.CutPrefix(l.ID, snapshotLease); ok {
			held = append(held, Held{"unfinished snapshot", id})
			continue
		}
		held = append(held, Held{"lease", l.ID})
	}
	errSnapshots := e.client.SnapshotService(snapshotter).Walk(ctx, func(_ context.Context, info snapshots.Info) error {
		if info.Kind == snapshots.KindActive {
			held = append(held, Held{"snapshot", info.Name})
		}
		return nil
	})
	return held, errors.Join(native(errContainers), native(errTasks), native(errLeases), native(errSnapshots))
}
