package wire

import (
	"errors"
	"testing"
	"time"

	"brig/internal/execution"
	"brig/shim/task"

	taskapi "github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"github.com/opencontainers/runtime-spec/specs-go"
	"google.golang.org/protobuf/types/known/anypb"
)

// TestRunInTime: whoever asked and died was followed by somebody who may have asked again.
func TestRunInTime(t *testing.T) {
	v := NewTasks(task.New(task.Options{}), nil)
	now, err := clock()
	if err != nil {
		t.Fatal(err)
	}
	for until, want := range map[time.Duration]func(error) bool{
		now - 1:          errdefs.IsOutOfRange,
		now + time.Hour:  errdefs.IsNotFound, // there is no task
		0:                errdefs.IsInvalidArgument,
		-time.Nanosecond: errdefs.IsInvalidArgument,
	} {
		payload, errEncode := execution.Run{ID: "x", Until: until, Process: &specs.Process{}}.Encode()
		_, err := v.Update(t.Context(), &taskapi.UpdateTaskRequest{ID: "a", Resources: &anypb.Any{TypeUrl: execution.TypeURL, Value: payload}})
		if err := errors.Join(errEncode, errgrpc.ToNative(err)); !want(err) {
			t.Errorf("until %v: %v", until, err)
		}
	}
}
