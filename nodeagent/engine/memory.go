package engine

import (
	"context"
	"fmt"

	cgroups1 "github.com/containerd/cgroups/v3/cgroup1/stats"
	cgroups2 "github.com/containerd/cgroups/v3/cgroup2/stats"
	"github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/errdefs"
	"github.com/containerd/typeurl/v2"
)

// OOMKills is how often the host's kernel has killed something of the sandbox for want of
// memory. It may be asked until the sandbox is removed, also when it has ended.
func (e *Engine) OOMKills(ctx context.Context, id string) (int, error) {
	r, err := e.client.TaskService().Metrics(e.in(ctx), &tasks.MetricsRequest{Filters: []string{"id==" + id}})
	if err != nil {
		return 0, fmt.Errorf("read the account of %s: %w", id, native(err))
	}
	for _, m := range r.GetMetrics() {
		if m.GetID() != id {
			continue
		}
		v, err := typeurl.UnmarshalAny(m.GetData())
		if err != nil {
			return 0, fmt.Errorf("read the account of %s: %w", id, err)
		}
		switch v := v.(type) {
		case *cgroups1.Metrics:
			return int(v.GetMemoryOomControl().GetOomKill()), nil
		case *cgroups2.Metrics:
			return int(v.GetMemoryEvents().GetOomKill()), nil
		}
	}
	return 0, errdefs.ErrNotFound.WithMessage("there is no account of sandbox " + id)
}
