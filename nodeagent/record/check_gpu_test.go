package record

import (
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
)

func TestGPURequest(t *testing.T) {
	const uuid = "GPU-0123abcd-0000-4000-8000-000000000000"
	allowed := []string{"compute", "utility", "video"}
	many := make([]string, MaxGPUs+1)
	for name, c := range map[string]struct {
		ask  *GPURequest
		want *GPURequest
		err  string
	}{
		"nothing":            {nil, nil, ""},
		"a count":            {&GPURequest{Count: 2}, &GPURequest{Count: 2, Capabilities: []string{"compute", "utility"}}, ""},
		"names":              {&GPURequest{Devices: []string{"0", uuid, CDIKind + "=1", CDIKind + "=" + uuid}}, &GPURequest{Devices: []string{"0", uuid, CDIKind + "=1", CDIKind + "=" + uuid}, Capabilities: []string{"compute", "utility"}}, ""},
		"capabilities":       {&GPURequest{Count: 1, Capabilities: []string{"video", "compute"}}, &GPURequest{Count: 1, Capabilities: []string{"compute", "video"}}, ""},
		"none":               {&GPURequest{}, nil, "gpu asks for none"},
		"capabilities alone": {&GPURequest{Capabilities: []string{"video"}}, nil, "gpu asks for none"},
		"both":               {&GPURequest{Count: 1, Devices: []string{"0"}}, nil, "give one of them"},
		"too many":           {&GPURequest{Count: MaxGPUs + 1}, nil, "at most 256"},
		"too many names":     {&GPURequest{Devices: many}, nil, "at most 256"},
		"twice":              {&GPURequest{Devices: []string{"0", "0"}}, nil, "GPU 0 is asked for twice"},
		"all":                {&GPURequest{Devices: []string{CDIKind + "=all"}}, nil, "say how many"},
		"MIG by UUID":        {&GPURequest{Devices: []string{"MIG-0"}}, nil, "instance of MIG"},
		"MIG by index":       {&GPURequest{Devices: []string{"0:1"}}, nil, "instance of MIG"},
		"another kind":       {&GPURequest{Devices: []string{"nvidia.com/mig=0"}}, nil, "want an index (0)"},
		"another vendor":     {&GPURequest{Devices: []string{"amd.com/gpu=0"}}, nil, "want an index (0)"},
		"empty":              {&GPURequest{Devices: []string{""}}, nil, "want an index (0)"},
		"a sign":             {&GPURequest{Devices: []string{"-1"}}, nil, "want an index (0)"},
		"a path":             {&GPURequest{Devices: []string{"GPU-../../etc"}}, nil, "want an index (0)"},
		"a comma":            {&GPURequest{Devices: []string{"0,1"}}, nil, "want an index (0)"},
		"not allowed":        {&GPURequest{Count: 1, Capabilities: []string{"graphics"}}, nil, "this node allows compute, utility, video"},
		"a word twice":       {&GPURequest{Count: 1, Capabilities: []string{"video", "video"}}, nil, "video is asked for twice"},
	} {
		got := c.ask.filled(allowed)
		err := got.check(allowed)
		if c.err != "" {
			if !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%s: %v, want %q", name, err, c.err)
			}
			continue
		}
		if diff := cmp.Diff(c.want, got); diff != "" || err != nil {
			t.Errorf("%s: %v (-want +got):\n%s", name, err, diff)
		}
	}
	if err := (&GPURequest{Count: 1}).filled([]string{"video"}).check([]string{"video"}); err == nil || !strings.Contains(err.Error(), "this node allows video") {
		t.Errorf("a node without the usual ones: %v", err)
	}
}
