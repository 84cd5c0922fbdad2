package gpus

import (
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"

	"brig/internal/sandbox"
	"brig/nodeagent/record"
)

// TestTake: of six GPUs one is MIG's, one has fallen off the bus, and one is taken.
func TestTake(t *testing.T) {
	i := healthy(6)
	i.GPUs[1].MIG = true
	i.GPUs[2] = GPU{Index: 2, Fault: "ERROR_GPU_IS_LOST", Minor: -1}
	count := func(n uint32) *record.GPURequest { return &record.GPURequest{Count: n} }
	named := func(names ...string) *record.GPURequest { return &record.GPURequest{Devices: names} }
	for name, c := range map[string]struct {
		ask  *record.GPURequest
		want []string
		err  string
		is   func(error) bool
	}{
		"any":            {count(1), []string{uuid(0)}, "", nil},
		"any two":        {count(2), []string{uuid(0), uuid(4)}, "", nil},
		"all":            {count(4), nil, "4 GPUs are asked for, and 3 of 4 are free", errdefs.IsResourceExhausted},
		"more":           {count(5), nil, "this node has 4 that it can give", errdefs.IsFailedPrecondition},
		"by index":       {named("5", "0"), []string{uuid(0), uuid(5)}, "", nil},
		"by CDI name":    {named("nvidia.com/gpu=4"), []string{uuid(4)}, "", nil},
		"by UUID":        {named("nvidia.com/gpu="+uuid(4), uuid(5)), []string{uuid(4), uuid(5)}, "", nil},
		"twice":          {named("4", uuid(4)), nil, "asked for twice", errdefs.IsInvalidArgument},
		"taken":          {named("3"), nil, "GPU 3 belongs to another sandbox, and 3 of 4 are free", errdefs.IsResourceExhausted},
		"MIG":            {named("1"), nil, "nvidia-smi -i 1 -mig 0", errdefs.IsFailedPrecondition},
		"lost":           {named("2"), nil, "ERROR_GPU_IS_LOST", errdefs.IsFailedPrecondition},
		"none":           {named("6"), nil, "there is no GPU 6", errdefs.IsNotFound},
		"somebody's":     {named(uuid(9)), nil, "there is no GPU GPU-", errdefs.IsNotFound},
		"one is missing": {named("0", "6"), nil, "there is no GPU 6", errdefs.IsNotFound},
	} {
		a := NewAllotments(false)
		a.Hold("sb-other", []string{uuid(3)})
		got, err := a.Take("sb-new", c.ask, i)
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
		if c.err == "" && err != nil || c.err != "" && (err == nil || !c.is(err) || !strings.Contains(err.Error(), c.err)) {
			t.Errorf("%s: %v, want %q", name, err, c.err)
		}
		want := map[string][]sandbox.ID{uuid(3): {"sb-other"}}
		for _, u := range c.want {
			want[u] = []sandbox.ID{"sb-new"}
		}
		if diff := cmp.Diff(want, a.Owners()); diff != "" {
			t.Errorf("%s, owners (-want +got):\n%s", name, diff)
		}
		if diff := cmp.Diff(c.want, a.Return("sb-new")); diff != "" || a.Return("sb-new") != nil {
			t.Errorf("%s, returned (-want +got):\n%s", name, diff)
		}
	}
}

func TestTakeOfNone(t *testing.T) {
	_, err := NewAllotments(true).Take("sb-a", &record.GPURequest{Count: 1}, none("there is no driver"))
	if !errdefs.IsFailedPrecondition(err) || err.Error() != "this node has no GPUs: there is no driver" {
		t.Error(err)
	}
}
