package engine

import (
	"context"
	"errors"
	"fmt"

	"github.com/containerd/cgroups/v3/cgroup1/stats"
	stats2 "github.com/containerd/cgroups/v3/cgroup2/stats"
	"github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/typeurl/v2"
)

// Stat is what somebody has to be asked about a running sandbox. nil: nobody answered.
type Stat struct {
	// Processes in it, as its own kernel counts them.
	Processes *uint64
	// Disk is what its writable layer holds, in bytes.
	Disk *uint64
}

// Stat asks the sandbox's kernel and looks at its writable layer. Both may take their time:
// ctx bounds it. What is known is there with an error, too.
func (e *Engine) Stat(ctx context.Context, id string) (s Stat, err error) {
	n, err := e.count(e.in(ctx), id)
	if err == nil {
		s.Processes = &n
	}
	usage, failed := e.client.SnapshotService(snapshotter).Usage(e.in(ctx), id)
	if failed != nil {
		return s, errors.Join(err, fmt.Errorf("look at the writable layer of %s: %w", id, native(failed)))
	}
	if usage.Size < 0 {
		return s, errors.Join(err, fmt.Errorf("look at the writable layer of %s: its size is unknown", id))
	}
	disk := uint64(usage.Size)
	s.Disk = &disk
	return s, err
}

func (e *Engine) count(ctx context.Context, id string) (uint64, error) {
	r, err := e.client.TaskService().Metrics(ctx, &tasks.MetricsRequest{Filters: []string{fmt.Sprintf("id==%q", id)}})
	if err != nil {
		return 0, fmt.Errorf("ask %s what it uses: %w", id, native(err))
	}
	for _, m := range r.GetMetrics() {
		if m.GetID() != id {
			continue
		}
		one, err := typeurl.UnmarshalAny(m.GetData())
		if err != nil {
			return 0, fmt.Errorf("read what %s uses: %w", id, err)
		}
		switch one := one.(type) {
		case *stats.Metrics:
			return one.GetPids().GetCurrent(), nil
		case *stats2.Metrics:
			return one.GetPids().GetCurrent(), nil
		default:
			return 0, fmt.Errorf("read what %s uses: unknown figures %T", id, one)
		}
	}
	return 0, fmt.Errorf("ask %s what it uses: it has no figures", id)
}
