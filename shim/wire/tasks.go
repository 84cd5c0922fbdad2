// Package wire translates between containerd's Task and Sandbox APIs and package task.
// Errors get their wire class here, and nothing is decided here.
package wire

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"brig/shim/bundle"
	"brig/shim/task"

	taskapi "github.com/containerd/containerd/api/runtime/task/v3"
	tasktypes "github.com/containerd/containerd/api/types/task"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/pkg/protobuf"
	"github.com/containerd/errdefs"
	"github.com/containerd/ttrpc"
	"github.com/opencontainers/runtime-spec/specs-go"
	"google.golang.org/protobuf/types/known/emptypb"
)

// Tasks serves the Task API, versions 2 and 3.
type Tasks struct {
	shim     *task.Shim
	shutdown func(time.Duration)
}

var _ taskapi.TTRPCTaskService = Tasks{}

// NewTasks serves shim; shutdown takes its socket away and ends the process after a while,
// once the shim is empty.
func NewTasks(shim *task.Shim, shutdown func(time.Duration)) Tasks { return Tasks{shim, shutdown} }

// Register the service, in both of its versions.
func (v Tasks) Register(s *ttrpc.Server) {
	taskapi.RegisterTTRPCTaskService(s, v)
	s.RegisterService(version2, &ttrpc.ServiceDesc{Methods: v.methods()})
}

var empty = new(emptypb.Empty)

// Create makes a sandbox, or a container in one. containerd takes "not implemented" for
// the answer of an old shim and asks again, so a refusal has another class.
func (v Tasks) Create(ctx context.Context, r *taskapi.CreateTaskRequest) (*taskapi.CreateTaskResponse, error) {
	pid, err := v.create(ctx, r)
	if err != nil {
		endForsaken(ctx, v.shim, v.shutdown)
	}
	if errdefs.IsNotImplemented(err) {
		err = errdefs.ErrFailedPrecondition.WithMessage(err.Error())
	}
	return &taskapi.CreateTaskResponse{Pid: uint32(pid)}, failure(err)
}

func (v Tasks) create(ctx context.Context, r *taskapi.CreateTaskRequest) (pid int, err error) {
	if err := errors.Join(checkName("container", r.ID), checkBundle(r.Bundle)); err != nil {
		return 0, err
	}
	if r.ParentCheckpoint != "" {
		return 0, fmt.Errorf("a checkpoint with a parent: %w", errdefs.ErrNotImplemented)
	}
	opts, err := ParseOptions(r.Options)
	if err != nil {
		return 0, err
	}
	rootfs := make([]mount.Mount, len(r.Rootfs))
	for i, m := range r.Rootfs {
		rootfs[i] = mount.Mount{Type: m.Type, Source: m.Source, Target: m.Target, Options: m.Options}
	}
	return v.shim.Create(ctx, task.CreateRequest{
		ID: r.ID, Bundle: bundle.Bundle(r.Bundle), Rootfs: rootfs, Config: opts.Config, SystemdCgroup: opts.SystemdCgroup,
		Checkpoint: r.Checkpoint, Streams: streams(ctx, r.ID, r),
	})
}

// Start starts the program or an exec.
func (v Tasks) Start(ctx context.Context, r *taskapi.StartRequest) (*taskapi.StartResponse, error) {
	var pid int
	var err error
	if r.ExecID == "" {
		pid, err = v.shim.Start(ctx, r.ID)
	} else {
		pid, err = v.shim.StartExec(ctx, r.ID, r.ExecID)
	}
	return &taskapi.StartResponse{Pid: uint32(pid)}, failure(err)
}

// Exec records a process to be started.
func (v Tasks) Exec(ctx context.Context, r *taskapi.ExecProcessRequest) (*emptypb.Empty, error) {
	if err := checkName("exec", r.ExecID); err != nil {
		return nil, failure(err)
	}
	var spec specs.Process
	if err := decodeJSON(r.Spec, &spec); err != nil {
		return nil, failure(fmt.Errorf("process of exec %s: %w: %w", r.ExecID, err, errdefs.ErrInvalidArgument))
	}
	return empty, failure(v.shim.AddExec(r.ID, r.ExecID, &spec, streams(ctx, r.ExecID, r)))
}

// Kill sends a signal.
func (v Tasks) Kill(ctx context.Context, r *taskapi.KillRequest) (*emptypb.Empty, error) {
	sig, err := signal(r.Signal)
	if err == nil {
		err = v.shim.Kill(ctx, r.ID, r.ExecID, sig, r.All)
	}
	return empty, failure(err)
}

// Wait answers when the process has ended.
func (v Tasks) Wait(ctx context.Context, r *taskapi.WaitRequest) (*taskapi.WaitResponse, error) {
	exit, err := v.shim.Wait(ctx, r.ID, r.ExecID)
	if err != nil {
		return nil, failure(err)
	}
	return &taskapi.WaitResponse{ExitStatus: exit.Code, ExitedAt: protobuf.ToTimestamp(exit.At)}, nil
}

// State describes a process.
func (v Tasks) State(_ context.Context, r *taskapi.StateRequest) (*taskapi.StateResponse, error) {
	s, err := v.shim.Status(r.ID, r.ExecID)
	if err != nil {
		return nil, failure(err)
	}
	return &taskapi.StateResponse{
		ID: s.ID, Bundle: s.Bundle, Pid: uint32(s.PID), ExecID: r.ExecID,
		Status: map[task.State]tasktypes.Status{
			task.Created: tasktypes.Status_CREATED, task.Running: tasktypes.Status_RUNNING,
			task.Paused: tasktypes.Status_PAUSED, task.Stopped: tasktypes.Status_STOPPED,
		}[s.State],
		Stdin: s.Streams.Stdin, Stdout: s.Streams.Stdout, Stderr: s.Streams.Stderr, Terminal: s.Streams.Terminal,
		ExitStatus: s.Exit.Code, ExitedAt: protobuf.ToTimestamp(s.Exit.At),
	}, nil
}

// Delete frees an ended process.
func (v Tasks) Delete(ctx context.Context, r *taskapi.DeleteRequest) (*taskapi.DeleteResponse, error) {
	var pid int
	var exit task.Exit
	var err error
	if r.ExecID == "" {
		pid, exit, err = v.shim.Delete(ctx, r.ID)
	} else {
		pid, exit, err = v.shim.DeleteExec(r.ID, r.ExecID)
	}
	if err != nil {
		return nil, failure(err)
	}
	return &taskapi.DeleteResponse{Pid: uint32(pid), ExitStatus: exit.Code, ExitedAt: protobuf.ToTimestamp(exit.At)}, nil
}

// CloseIO closes the shim's end of stdin.
func (v Tasks) CloseIO(_ context.Context, r *taskapi.CloseIORequest) (*emptypb.Empty, error) {
	if !r.Stdin {
		return empty, nil
	}
	return empty, failure(v.shim.CloseStdin(r.ID, r.ExecID))
}

// ResizePty sets the size of a terminal.
func (v Tasks) ResizePty(ctx context.Context, r *taskapi.ResizePtyRequest) (*emptypb.Empty, error) {
	width, height, err := size(r.Width, r.Height)
	if err == nil {
		err = v.shim.Resize(ctx, r.ID, r.ExecID, width, height)
	}
	return empty, failure(err)
}

// Pause freezes the sandbox.
func (v Tasks) Pause(ctx context.Context, r *taskapi.PauseRequest) (*emptypb.Empty, error) {
	return empty, failure(v.shim.Pause(ctx, r.ID))
}

// Resume thaws it.
func (v Tasks) Resume(ctx context.Context, r *taskapi.ResumeRequest) (*emptypb.Empty, error) {
	return empty, failure(v.shim.Resume(ctx, r.ID))
}

// Connect tells the pids of shim and task; a pod's id is as good as a task's.
func (v Tasks) Connect(_ context.Context, r *taskapi.ConnectRequest) (*taskapi.ConnectResponse, error) {
	return &taskapi.ConnectResponse{ShimPid: uint32(os.Getpid()), TaskPid: uint32(v.shim.PID(r.ID))}, nil
}

// Shutdown ends the shim if it has no task.
func (v Tasks) Shutdown(context.Context, *taskapi.ShutdownRequest) (*emptypb.Empty, error) {
	if v.shim.Empty() {
		v.shutdown(0)
	}
	return empty, nil
}

// Checkpoint writes the sandbox to an image.
func (v Tasks) Checkpoint(ctx context.Context, r *taskapi.CheckpointTaskRequest) (*emptypb.Empty, error) {
	exit, err := checkpointOptions(r.Options)
	if err != nil {
		return nil, failure(err)
	}
	return empty, failure(v.shim.Checkpoint(ctx, r.ID, r.Path, exit))
}
