package wire

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"brig/internal/execution"
	"brig/shim/task"

	sandboxapi "github.com/containerd/containerd/api/runtime/sandbox/v1"
	taskapi "github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"github.com/opencontainers/runtime-spec/specs-go"
	"google.golang.org/protobuf/types/known/anypb"
)

// TestHostileIDs: what would be a path of somebody else's is refused before it is used.
func TestHostileIDs(t *testing.T) {
	shim := task.New(task.Options{})
	tasks, pods, ctx := NewTasks(shim, nil), NewSandboxes(shim, nil), context.Background()
	for _, id := range []string{"", ".", "..", "../x", "/", "a/b", "a\x00", "-rf", "a+", "*", strings.Repeat("a", 77), strings.Repeat("a", 1<<20)} {
		_, errCreate := tasks.Create(ctx, &taskapi.CreateTaskRequest{ID: id, Bundle: "/b"})
		_, errExec := tasks.Exec(ctx, &taskapi.ExecProcessRequest{ID: "a", ExecID: id})
		payload, err := execution.Run{ID: id, Until: time.Hour, Process: &specs.Process{}}.Encode()
		if err != nil {
			t.Fatal(err)
		}
		_, errRun := tasks.Update(ctx, &taskapi.UpdateTaskRequest{ID: "a", Resources: &anypb.Any{TypeUrl: execution.TypeURL, Value: payload}})
		if id == "" {
			errRun = errExec // refused before: there is no program
		}
		_, errPod := pods.CreateSandbox(ctx, &sandboxapi.CreateSandboxRequest{SandboxID: id, BundlePath: "/b"})
		for _, err := range []error{errCreate, errExec, errRun, errPod} {
			if err = errgrpc.ToNative(err); !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), " id ") || len(err.Error()) > 500 {
				t.Errorf("id %.20q: %v", id, err)
			}
		}
	}
	for _, bundle := range []string{"", "b", "/", "/a/../b", "/a/", "/a\x00"} {
		_, err := tasks.Create(ctx, &taskapi.CreateTaskRequest{ID: "a", Bundle: bundle})
		if err = errgrpc.ToNative(err); !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), "bundle") {
			t.Errorf("bundle %q: %v", bundle, err)
		}
	}
}

// TestNumbersThatDoNotFit are refused rather than cut to size.
func TestNumbersThatDoNotFit(t *testing.T) {
	tasks, ctx := NewTasks(task.New(task.Options{}), nil), context.Background()
	for _, number := range []uint32{65, 1 << 31, 1<<32 - 9} {
		_, err := tasks.Kill(ctx, &taskapi.KillRequest{ID: "a", Signal: number})
		if err = errgrpc.ToNative(err); !errdefs.IsInvalidArgument(err) {
			t.Errorf("signal %d: %v", number, err)
		}
	}
	for _, side := range []uint32{1 << 16, 1<<32 - 1} {
		_, err := tasks.ResizePty(ctx, &taskapi.ResizePtyRequest{ID: "a", Width: 80, Height: side})
		if err = errgrpc.ToNative(err); !errdefs.IsInvalidArgument(err) {
			t.Errorf("a height of %d: %v", side, err)
		}
	}
}

// TestForsaken: a shim whose only caller has gone, in the middle of a create that fails,
// ends; after any other failure it stays.
func TestForsaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		for _, ctx := range []context.Context{t.Context(), gone} {
			var ended atomic.Bool
			shutdown, shim := func(time.Duration) { ended.Store(true) }, task.New(task.Options{})
			_, errCreate := NewTasks(shim, shutdown).Create(ctx, &taskapi.CreateTaskRequest{})
			_, errStart := NewSandboxes(shim, shutdown).StartSandbox(ctx, &sandboxapi.StartSandboxRequest{SandboxID: "a"})
			time.Sleep(time.Minute)
			if errCreate == nil || errStart == nil || ended.Load() != (ctx == gone) {
				t.Errorf("ended %v after %v, %v", ended.Load(), errCreate, errStart)
			}
		}
	})
}
