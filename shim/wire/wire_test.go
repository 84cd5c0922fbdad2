package wire

import (
	"os"
	"testing"
	"time"

	"brig/shim/stdio"
	"brig/shim/task"

	"github.com/containerd/containerd/api/events"
	taskapi "github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/containerd/api/types"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/pkg/protobuf"
	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"google.golang.org/protobuf/proto"
)

func TestEvents(t *testing.T) {
	at := time.Unix(1700000000, 0)
	exit := task.Exit{Code: 3, At: at}
	for _, c := range []struct {
		event task.Event
		topic string
		want  proto.Message
	}{
		{task.EventCreated{PID: 5, Request: task.CreateRequest{
			ID: "a", Bundle: "/b", Rootfs: []mount.Mount{{Type: "overlay", Source: "s", Options: []string{"o"}}},
			Streams: stdio.Config{Stdin: "i", Stdout: "o", Stderr: "e", Terminal: true},
		}}, "/tasks/create", &events.TaskCreate{
			ContainerID: "a", Bundle: "/b", Pid: 5, Rootfs: []*types.Mount{{Type: "overlay", Source: "s", Options: []string{"o"}}},
			IO: &events.TaskIO{Stdin: "i", Stdout: "o", Stderr: "e", Terminal: true},
		}},
		{task.EventStarted{ID: "a", PID: 5}, "/tasks/start", &events.TaskStart{ContainerID: "a", Pid: 5}},
		{task.EventExecAdded{ID: "a", ExecID: "x"}, "/tasks/exec-added", &events.TaskExecAdded{ContainerID: "a", ExecID: "x"}},
		{task.EventExecStarted{ID: "a", ExecID: "x", PID: 5}, "/tasks/exec-started", &events.TaskExecStarted{ContainerID: "a", ExecID: "x", Pid: 5}},
		{task.EventPaused{ID: "a"}, "/tasks/paused", &events.TaskPaused{ContainerID: "a"}},
		{task.EventResumed{ID: "a"}, "/tasks/resumed", &events.TaskResumed{ContainerID: "a"}},
		{task.EventCheckpointed{ID: "a", Path: "/i"}, "/tasks/checkpointed", &events.TaskCheckpointed{ContainerID: "a", Checkpoint: "/i"}},
		{task.EventOOM{ID: "a"}, "/tasks/oom", &events.TaskOOM{ContainerID: "a"}},
		{task.EventExited{ID: "a", PID: 5, Exit: exit}, "/tasks/exit",
			&events.TaskExit{ContainerID: "a", ID: "a", Pid: 5, ExitStatus: 3, ExitedAt: protobuf.ToTimestamp(at)}},
		{task.EventExited{ID: "a", ExecID: "x", PID: 5, Exit: exit}, "/tasks/exit",
			&events.TaskExit{ContainerID: "a", ID: "x", Pid: 5, ExitStatus: 3, ExitedAt: protobuf.ToTimestamp(at)}},
		{task.EventDeleted{ID: "a", PID: 5, Exit: exit}, "/tasks/delete",
			&events.TaskDelete{ContainerID: "a", ID: "a", Pid: 5, ExitStatus: 3, ExitedAt: protobuf.ToTimestamp(at)}},
	} {
		topic, got := Event(c.event)
		if topic != c.topic || !proto.Equal(got.(proto.Message), c.want) {
			t.Errorf("%T: %s %v; want %s %v", c.event, topic, got, c.topic, c.want)
		}
	}
}

func TestWithoutATask(t *testing.T) {
	down := false
	v := NewTasks(task.New(task.Options{}), func(time.Duration) { down = true })
	ctx := t.Context()
	for name, call := range map[string]func() error{
		"state":  func() error { _, err := v.State(ctx, &taskapi.StateRequest{ID: "a"}); return err },
		"start":  func() error { _, err := v.Start(ctx, &taskapi.StartRequest{ID: "a"}); return err },
		"kill":   func() error { _, err := v.Kill(ctx, &taskapi.KillRequest{ID: "a"}); return err },
		"wait":   func() error { _, err := v.Wait(ctx, &taskapi.WaitRequest{ID: "a"}); return err },
		"delete": func() error { _, err := v.Delete(ctx, &taskapi.DeleteRequest{ID: "a"}); return err },
		"checkpoint": func() error {
			_, err := v.Checkpoint(ctx, &taskapi.CheckpointTaskRequest{ID: "a", Path: "/i"})
			return err
		},
		"pids": func() error { _, err := v.Pids(ctx, &taskapi.PidsRequest{ID: "a"}); return err },
	} {
		if err := errgrpc.ToNative(call()); !errdefs.IsNotFound(err) {
			t.Errorf("%s: %v; want not found", name, err)
		}
	}
	if c, err := v.Connect(ctx, &taskapi.ConnectRequest{ID: "a"}); err != nil || int(c.ShimPid) != os.Getpid() || c.TaskPid != 0 {
		t.Errorf("connect: %v, %v", c, err)
	}
	if _, err := v.Shutdown(ctx, &taskapi.ShutdownRequest{}); err != nil || !down {
		t.Errorf("shutdown: %v, %t", err, down)
	}
}
