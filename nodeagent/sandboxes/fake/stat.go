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
	return engine.Stat{Processes: 1}, n.fail["stat"]
}
