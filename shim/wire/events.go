package wire

import (
	"brig/shim/task"

	"github.com/containerd/containerd/api/events"
	"github.com/containerd/containerd/api/types"
	"github.com/containerd/containerd/v2/core/runtime"
	"github.com/containerd/containerd/v2/pkg/protobuf"
)

// Event gives containerd's form of e and its topic.
func Event(e task.Event) (topic string, event any) {
	event = message(e)
	return runtime.GetTopic(event), event
}

func message(e task.Event) any {
	switch e := e.(type) {
	case task.EventCreated:
		return created(e)
	case task.EventStarted:
		return &events.TaskStart{ContainerID: e.ID, Pid: uint32(e.PID)}
	case task.EventExecAdded:
		return &events.TaskExecAdded{ContainerID: e.ID, ExecID: e.ExecID}
	case task.EventExecStarted:
		return &events.TaskExecStarted{ContainerID: e.ID, ExecID: e.ExecID, Pid: uint32(e.PID)}
	case task.EventPaused:
		return &events.TaskPaused{ContainerID: e.ID}
	case task.EventResumed:
		return &events.TaskResumed{ContainerID: e.ID}
	case task.EventCheckpointed:
		return &events.TaskCheckpointed{ContainerID: e.ID, Checkpoint: e.Path}
	case task.EventOOM:
		return &events.TaskOOM{ContainerID: e.ID}
	case task.EventExited:
		id := e.ExecID
		if id == "" {
			id = e.ID
		}
		return &events.TaskExit{ContainerID: e.ID, ID: id, Pid: uint32(e.PID), ExitStatus: e.Exit.Code, ExitedAt: protobuf.ToTimestamp(e.Exit.At)}
	case task.EventDeleted:
		return &events.TaskDelete{ContainerID: e.ID, ID: e.ID, Pid: uint32(e.PID), ExitStatus: e.Exit.Code, ExitedAt: protobuf.ToTimestamp(e.Exit.At)}
	}
	panic("an event of a new kind")
}

func created(e task.EventCreated) *events.TaskCreate {
	r := e.Request
	out := &events.TaskCreate{
		ContainerID: r.ID, Bundle: string(r.Bundle), Pid: uint32(e.PID),
		IO: &events.TaskIO{Stdin: r.Streams.Stdin, Stdout: r.Streams.Stdout, Stderr: r.Streams.Stderr, Terminal: r.Streams.Terminal},
	}
	for _, m := range r.Rootfs {
		out.Rootfs = append(out.Rootfs, &types.Mount{Type: m.Type, Source: m.Source, Target: m.Target, Options: m.Options})
	}
	return out
}
