package wire

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"brig/internal/execution"
	"brig/internal/rootlayer"
	"brig/internal/sandbox"
	"brig/internal/slot"
	"brig/shim/wire/pod"

	sandboxapi "github.com/containerd/containerd/api/runtime/sandbox/v1"
	taskapi "github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/emptypb"
)

// Update changes a task's limits, gives a waiting sandbox its program, tells a held one whose
// it is, runs programs beside it, writes a layer of a root or tells how a task ended: it is the
// one call whose payload containerd hands on unread, and brigd asks through it for what
// containerd has no call for. Annotations are for other runtimes; brig's count when a sandbox is made.
func (v Tasks) Update(ctx context.Context, r *taskapi.UpdateTaskRequest) (*emptypb.Empty, error) {
	switch r.Resources.GetTypeUrl() {
	case sandbox.AskCrashed:
		return empty, failure(v.crashed(r.ID))
	case slot.TypeURL:
		claim, err := slot.Decode(r.Resources.GetValue())
		if err != nil {
			return empty, failure(fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument))
		}
		return empty, failure(v.shim.Claim(ctx, r.ID, claim))
	case slot.HeldURL:
		held, err := slot.DecodeHeld(r.Resources.GetValue())
		if err != nil {
			return empty, failure(fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument))
		}
		return empty, failure(v.shim.ClaimHeld(ctx, r.ID, held))
	case slot.GateTypeURL:
		g, err := slot.DecodeGate(r.Resources.GetValue())
		if err != nil {
			return empty, failure(fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument))
		}
		return empty, failure(v.shim.OpenGate(ctx, r.ID, g))
	case rootlayer.TypeURL:
		request, err := rootlayer.Decode(r.Resources.GetValue())
		if err != nil {
			return empty, failure(fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument))
		}
		return empty, failure(v.shim.RootLayer(ctx, r.ID, request))
	case execution.TypeURL:
		return empty, failure(v.run(ctx, r.ID, r.Resources.GetValue()))
	}
	wanted, err := limits(r.Resources)
	if err == nil {
		err = v.shim.Update(ctx, r.ID, wanted)
	}
	return empty, failure(err)
}

// crashed is nil if the task did.
func (v Tasks) crashed(id string) error {
	crashed, err := v.shim.Crashed(id)
	if err == nil && !crashed {
		err = fmt.Errorf("task %s did not crash: %w", id, errdefs.ErrFailedPrecondition)
	}
	return err
}

func (v Tasks) run(ctx context.Context, id string, payload []byte) error {
	r, err := execution.Decode(payload)
	if err != nil {
		return fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument)
	}
	if err := checkName("exec", r.ID); err != nil {
		return err
	}
	now, err := clock()
	if err != nil {
		return err
	}
	if now > r.Until {
		return fmt.Errorf("run exec %s: it was asked for too long ago: %w", r.ID, errdefs.ErrOutOfRange)
	}
	return v.shim.RunExec(ctx, id, r.ID, r.Process, streams(ctx, r.ID, r))
}

// clock is the machine's, which stands still for nobody.
func clock() (time.Duration, error) {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &now); err != nil {
		return 0, fmt.Errorf("read the clock: %w", err)
	}
	return time.Duration(now.Nano()), nil
}

// limits refuses a type or a field that this version does not know: it would be dropped.
func limits(encoded *anypb.Any) (*specs.LinuxResources, error) {
	if encoded == nil {
		return nil, fmt.Errorf("an update of nothing: %w", errdefs.ErrInvalidArgument)
	}
	if !strings.HasSuffix(encoded.TypeUrl, "/LinuxResources") {
		return nil, fmt.Errorf("an update of type %s: %w", encoded.TypeUrl, errdefs.ErrInvalidArgument)
	}
	decoder := json.NewDecoder(bytes.NewReader(encoded.Value))
	decoder.DisallowUnknownFields()
	r := new(specs.LinuxResources)
	if err := decoder.Decode(r); err != nil {
		return nil, fmt.Errorf("limits: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	return r, nil
}

// updatedResources is the extension in which containerd's CRI plugin passes a pod's new
// limits.
const updatedResources = "updated-resources"

// UpdateSandbox changes a pod's limits. Nothing else of a sandbox can change.
func (v Sandboxes) UpdateSandbox(ctx context.Context, r *sandboxapi.UpdateSandboxRequest) (*sandboxapi.UpdateSandboxResponse, error) {
	return &sandboxapi.UpdateSandboxResponse{}, failure(v.update(ctx, r))
}

func (v Sandboxes) update(ctx context.Context, r *sandboxapi.UpdateSandboxRequest) error {
	for _, field := range r.Fields {
		if name, _, _ := strings.Cut(field, "."); name != "extensions" && name != "labels" {
			return fmt.Errorf("update of a sandbox's %s: %w", field, errdefs.ErrNotImplemented)
		}
	}
	encoded := r.GetSandbox().GetExtensions()[updatedResources]
	if encoded == nil {
		return nil
	}
	var updated struct{ Overhead, Resources *pod.Resources }
	if err := json.Unmarshal(encoded.Value, &updated); err != nil {
		return fmt.Errorf("limits of a pod: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	wanted := podResources(updated.Resources, updated.Overhead)
	if wanted == nil {
		return nil
	}
	return v.shim.UpdatePod(ctx, r.SandboxID, wanted)
}
