package wire

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"time"

	"brig/shim/bundle"
	"brig/shim/task"
	"brig/shim/wire/pod"

	sandboxapi "github.com/containerd/containerd/api/runtime/sandbox/v1"
	"github.com/containerd/containerd/api/types"
	"github.com/containerd/containerd/v2/pkg/protobuf"
	"github.com/containerd/errdefs"
	"github.com/containerd/ttrpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// Sandboxes serves the Sandbox API.
type Sandboxes struct {
	shim     *task.Shim
	shutdown func(time.Duration)
}

var _ sandboxapi.TTRPCSandboxService = Sandboxes{}

// NewSandboxes serves shim; shutdown takes its socket away and ends the process after a
// while, once the shim is empty.
func NewSandboxes(shim *task.Shim, shutdown func(time.Duration)) Sandboxes {
	return Sandboxes{shim, shutdown}
}

// Register the service.
func (v Sandboxes) Register(s *ttrpc.Server) {
	sandboxapi.RegisterTTRPCSandboxService(s, v)
}

// CreateSandbox plans a pod.
func (v Sandboxes) CreateSandbox(_ context.Context, r *sandboxapi.CreateSandboxRequest) (*sandboxapi.CreateSandboxResponse, error) {
	request, err := podRequest(r)
	if err == nil {
		err = v.shim.CreatePod(request)
	}
	return &sandboxapi.CreateSandboxResponse{}, failure(err)
}

// StartSandbox boots it.
func (v Sandboxes) StartSandbox(ctx context.Context, r *sandboxapi.StartSandboxRequest) (*sandboxapi.StartSandboxResponse, error) {
	s, err := v.shim.StartPod(ctx, r.SandboxID)
	if err != nil {
		endForsaken(ctx, v.shim, v.shutdown)
		return nil, failure(err)
	}
	return &sandboxapi.StartSandboxResponse{Pid: uint32(s.PID), CreatedAt: protobuf.ToTimestamp(s.Created)}, nil
}

// Platform is the node's: gVisor runs its binaries and no others.
func (v Sandboxes) Platform(context.Context, *sandboxapi.PlatformRequest) (*sandboxapi.PlatformResponse, error) {
	return &sandboxapi.PlatformResponse{Platform: &types.Platform{OS: runtime.GOOS, Architecture: runtime.GOARCH}}, nil
}

// StopSandbox ends the sandbox; its status can be asked for until it is shut down.
func (v Sandboxes) StopSandbox(ctx context.Context, r *sandboxapi.StopSandboxRequest) (*sandboxapi.StopSandboxResponse, error) {
	return &sandboxapi.StopSandboxResponse{}, failure(v.shim.StopPod(ctx, r.SandboxID))
}

// WaitSandbox answers when the sandbox has ended.
func (v Sandboxes) WaitSandbox(ctx context.Context, r *sandboxapi.WaitSandboxRequest) (*sandboxapi.WaitSandboxResponse, error) {
	exit, err := v.shim.WaitPod(ctx, r.SandboxID)
	if err != nil {
		return nil, failure(err)
	}
	return &sandboxapi.WaitSandboxResponse{ExitStatus: exit.Code, ExitedAt: protobuf.ToTimestamp(exit.At)}, nil
}

// SandboxStatus uses the words of Kubernetes, which is where containerd looks them up.
func (v Sandboxes) SandboxStatus(_ context.Context, r *sandboxapi.SandboxStatusRequest) (*sandboxapi.SandboxStatusResponse, error) {
	s, err := v.shim.PodStatus(r.SandboxID)
	if err != nil {
		return nil, failure(err)
	}
	out := &sandboxapi.SandboxStatusResponse{
		SandboxID: r.SandboxID, Pid: uint32(s.PID), State: "SANDBOX_NOTREADY", CreatedAt: protobuf.ToTimestamp(s.Created),
	}
	if s.Ready {
		out.State = "SANDBOX_READY"
	}
	if !s.Exit.At.IsZero() {
		out.ExitedAt = protobuf.ToTimestamp(s.Exit.At)
	}
	return out, nil
}

// PingSandbox answers if the sandbox runs.
func (v Sandboxes) PingSandbox(_ context.Context, r *sandboxapi.PingRequest) (*sandboxapi.PingResponse, error) {
	s, err := v.shim.PodStatus(r.SandboxID)
	if err == nil && !s.Ready {
		err = fmt.Errorf("sandbox %s does not run: %w", r.SandboxID, errdefs.ErrUnavailable)
	}
	return &sandboxapi.PingResponse{}, failure(err)
}

// answerTime is how long the shim outlives its last answer, which the end of the process
// would cut off: containerd takes that for a failed shutdown.
const answerTime = 100 * time.Millisecond

// endForsaken ends a shim whose first create has failed while its caller did not wait for
// the answer. containerd then hangs up, and may not manage to say more.
func endForsaken(ctx context.Context, shim *task.Shim, shutdown func(time.Duration)) {
	if ctx.Err() == nil {
		return
	}
	time.AfterFunc(answerTime, func() {
		if shim.Unused() {
			shutdown(0)
		}
	})
}

// ShutdownSandbox frees the sandbox and ends the shim.
func (v Sandboxes) ShutdownSandbox(ctx context.Context, r *sandboxapi.ShutdownSandboxRequest) (*sandboxapi.ShutdownSandboxResponse, error) {
	// containerd shuts down what it has failed to create, too.
	if err := v.shim.ShutdownPod(ctx, r.SandboxID); err != nil && !errdefs.IsNotFound(err) {
		return nil, failure(err)
	}
	if v.shim.Empty() {
		v.shutdown(answerTime)
	}
	return &sandboxapi.ShutdownSandboxResponse{}, nil
}

// podRequest refuses what a pod may not have: anything of the node's.
func podRequest(r *sandboxapi.CreateSandboxRequest) (task.PodRequest, error) {
	if err := errors.Join(checkName("sandbox", r.SandboxID), checkBundle(r.BundlePath)); err != nil {
		return task.PodRequest{}, err
	}
	opts, err := withConfig("")
	if err != nil {
		return task.PodRequest{}, err
	}
	c, err := podConfig(r.Options)
	if err != nil {
		return task.PodRequest{}, err
	}
	if len(r.Rootfs) > 0 {
		return task.PodRequest{}, fmt.Errorf("a root filesystem for a sandbox, which runs no image: %w", errdefs.ErrInvalidArgument)
	}
	if err := checkNamespaces(c.GetLinux().GetSecurityContext()); err != nil {
		return task.PodRequest{}, err
	}
	annotations := c.GetAnnotations()
	if annotations == nil {
		annotations = r.Annotations
	}
	p := bundle.Pod{
		ID: r.SandboxID, NetNS: r.NetnsPath, Hostname: c.GetHostname(), Annotations: annotations,
		CgroupParent: c.GetLinux().GetCgroupParent(), Sysctls: c.GetLinux().GetSysctls(),
		Resources: podResources(c.GetLinux().GetResources(), c.GetLinux().GetOverhead()),
	}
	if dns := c.GetDnsConfig(); dns != nil {
		p.DNS = &bundle.DNS{Servers: dns.Servers, Searches: dns.Searches, Options: dns.Options}
	}
	return task.PodRequest{Pod: p, Bundle: bundle.Bundle(r.BundlePath), Config: opts.Config}, nil
}

// podConfig is empty where the caller is no CRI.
func podConfig(options *anypb.Any) (*pod.Config, error) {
	c := new(pod.Config)
	if options == nil || options.TypeUrl == "" {
		return c, nil
	}
	if name := options.TypeUrl[strings.LastIndexByte(options.TypeUrl, '/')+1:]; name != "runtime.v1.PodSandboxConfig" {
		return nil, fmt.Errorf("sandbox options of type %s: brig takes runtime.v1.PodSandboxConfig: %w", name, errdefs.ErrInvalidArgument)
	}
	if err := proto.Unmarshal(options.Value, c); err != nil {
		return nil, fmt.Errorf("sandbox options: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	return c, nil
}

func checkNamespaces(c *pod.SecurityContext) error {
	n, node := c.GetNamespaceOptions(), pod.NamespaceMode_NAMESPACE_MODE_NODE
	for _, wish := range []struct {
		name  string
		given bool
	}{
		{"network (hostNetwork)", n.GetNetwork() == node}, {"processes (hostPID)", n.GetPid() == node}, {"IPC (hostIPC)", n.GetIpc() == node},
		{"privileges", c.GetPrivileged()},
	} {
		if wish.given {
			return fmt.Errorf("the node's %s: a sandbox gets nothing of the node's: %w", wish.name, errdefs.ErrInvalidArgument)
		}
	}
	if u := n.GetUsernsOptions(); u != nil && u.GetMode() == pod.NamespaceMode_NAMESPACE_MODE_POD_UNSPECIFIED {
		return fmt.Errorf("a user namespace (hostUsers: false): the sandbox's kernel has its own users: %w", errdefs.ErrInvalidArgument)
	}
	return nil
}
