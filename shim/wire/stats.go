package wire

import (
	"context"
	"time"

	"brig/shim/cgroup"

	sandboxapi "github.com/containerd/containerd/api/runtime/sandbox/v1"
	taskapi "github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/containerd/api/types"
	"github.com/containerd/containerd/api/types/runc/options"
	tasktypes "github.com/containerd/containerd/api/types/task"
	"github.com/containerd/containerd/v2/pkg/protobuf"
	"github.com/containerd/typeurl/v2"
	"google.golang.org/protobuf/types/known/anypb"
)

// Stats reads a task's metrics.
func (v Tasks) Stats(ctx context.Context, r *taskapi.StatsRequest) (*taskapi.StatsResponse, error) {
	data, err := metrics(v.shim.Stats(ctx, r.ID))
	return &taskapi.StatsResponse{Stats: data}, failure(err)
}

// SandboxMetrics reads those of a whole pod.
func (v Sandboxes) SandboxMetrics(ctx context.Context, r *sandboxapi.SandboxMetricsRequest) (*sandboxapi.SandboxMetricsResponse, error) {
	data, err := metrics(v.shim.PodStats(ctx, r.SandboxID))
	return &sandboxapi.SandboxMetricsResponse{
		Metrics: &types.Metric{ID: r.SandboxID, Timestamp: protobuf.ToTimestamp(time.Now()), Data: data},
	}, failure(err)
}

func metrics(m cgroup.Metrics, err error) (*anypb.Any, error) {
	if err != nil {
		return nil, err
	}
	return typeurl.MarshalAnyToProto(m.Message())
}

// Pids lists a task's processes. On the host all of them are one, the sandbox's kernel,
// so all have its pid: a pid of the sandbox's would name some other process there.
func (v Tasks) Pids(ctx context.Context, r *taskapi.PidsRequest) (*taskapi.PidsResponse, error) {
	pid, execIDs, err := v.shim.Processes(ctx, r.ID)
	if err != nil {
		return nil, failure(err)
	}
	out := new(taskapi.PidsResponse)
	for _, execID := range execIDs {
		info := &tasktypes.ProcessInfo{Pid: uint32(pid)}
		if execID != "" {
			if info.Info, err = typeurl.MarshalAnyToProto(&options.ProcessDetails{ExecID: execID}); err != nil {
				return nil, failure(err)
			}
		}
		out.Processes = append(out.Processes, info)
	}
	return out, nil
}
