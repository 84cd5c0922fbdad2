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
	// Processes and threads in it, as its own kernel counts them; if that does not answer,
	// the programs that the shim has started.
	Processes *uint64
	// Disk is what its writable layer holds, in bytes.
	Disk *uint64
}

// Stat asks the sandbox's kernel and looks at its writable layer, at once: neither waits for
// the other, and ctx bounds both. What is known is there with an error, too.
func (e *Engine) Stat(ctx context.Context, id string) (s Stat, err error) {
	counted := make(chan error)
	go func() {
		n, err := e.count(e.in(ctx), id)
		if err == nil {
			s.Processes = &n
		}
		counted <- err
	}()
	disk, err := e.disk(e.in(ctx), id)
	if err == nil {
		s.Disk = &disk
	}
	err = errors.Join(<-counted, err) // before s is read
	return s, err
}

func (e *Engine) disk(ctx context.Context, id string) (uint64, error) {
	usage, err := e.client.SnapshotService(snapshotter).Usage(ctx, id)
	if err != nil {
		return 0, fmt.Errorf("look at the writable layer of %s: %w", id, native(err))
	}
	if usage.Size < 0 {
		return 0, fmt.Errorf("look at the writable layer of %s: its size is unknown", id)
	}
	return uint64(usage.Size), nil
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
