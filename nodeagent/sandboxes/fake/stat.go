package fake

import (
	"context"
	"fmt"

	"github.com/containerd/errdefs"

	"brig/nodeagent/engine"
)

// Stat is of a task that runs one program.
func (n *Node) Stat(_ context.Context, id string) (engine.Stat, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.tasks[id] == nil {
		return engine.Stat{}, errdefs.ErrNotFound.WithMessage(fmt.Sprintf("there is no task %s", id))
	}
	if err := n.fail["stat"]; err != nil {
		return engine.Stat{}, err
	}
	one, disk := uint64(1), uint64(0)
	return engine.Stat{Processes: &one, Disk: &disk}, nil
}
