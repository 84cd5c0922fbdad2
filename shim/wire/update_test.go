package wire

import (
	"strings"
	"testing"

	"brig/shim/task"

	sandboxapi "github.com/containerd/containerd/api/runtime/sandbox/v1"
	"github.com/containerd/containerd/api/types"
	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"google.golang.org/protobuf/types/known/anypb"
)

const limitsType = "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources"

func TestLimits(t *testing.T) {
	for _, c := range []struct {
		name string
		in   *anypb.Any
		want string // in the error; empty: none
	}{
		{"limits", &anypb.Any{TypeUrl: limitsType, Value: []byte(`{"memory":{"limit":5}}`)}, ""},
		{"nothing", nil, "an update of nothing"},
		{"another type", &anypb.Any{TypeUrl: "google.protobuf.Empty"}, "an update of type google.protobuf.Empty"},
		{"an unknown field", &anypb.Any{TypeUrl: limitsType, Value: []byte(`{"memory":{"limits":5}}`)}, `unknown field "limits"`},
		{"no JSON", &anypb.Any{TypeUrl: limitsType, Value: []byte(`limit=5`)}, "limits: invalid character"},
	} {
		r, err := limits(c.in)
		if c.want != "" && (!errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v; want %q", c.name, err, c.want)
		}
		if c.want == "" && (err != nil || *r.Memory.Limit != 5) {
			t.Errorf("%s: %+v, %v", c.name, r, err)
		}
	}
}

func TestUpdateSandbox(t *testing.T) {
	v := NewSandboxes(task.New(task.Options{}), nil)
	updated := func(json string) *types.Sandbox {
		return &types.Sandbox{Extensions: map[string]*anypb.Any{updatedResources: {Value: []byte(json)}}}
	}
	for _, c := range []struct {
		name string
		in   *sandboxapi.UpdateSandboxRequest
		want func(error) bool // nil: no error
	}{
		{"nothing", &sandboxapi.UpdateSandboxRequest{}, nil},
		{"another extension", &sandboxapi.UpdateSandboxRequest{Sandbox: &types.Sandbox{}, Fields: []string{"extensions"}}, nil},
		{"a runtime", &sandboxapi.UpdateSandboxRequest{Sandbox: &types.Sandbox{}, Fields: []string{"runtime"}}, errdefs.IsNotImplemented},
		{"no limits", &sandboxapi.UpdateSandboxRequest{Sandbox: updated(`{}`)}, nil},
		{"no JSON", &sandboxapi.UpdateSandboxRequest{Sandbox: updated(`x`)}, errdefs.IsInvalidArgument},
		{"limits of no pod", &sandboxapi.UpdateSandboxRequest{
			SandboxID: "a", Sandbox: updated(`{"Overhead":null,"Resources":{"memory_limit_in_bytes":5,"cpu_quota":1000,"cpu_period":1000}}`),
		}, errdefs.IsNotFound},
	} {
		_, err := v.UpdateSandbox(t.Context(), c.in)
		if err = errgrpc.ToNative(err); c.want == nil && err != nil || c.want != nil && !c.want(err) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}
