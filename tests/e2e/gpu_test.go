package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	"brig/internal/require"
	brigv1 "brig/nodeagent/api/brig/v1"
	"brig/tests/driver"
	"brig/tests/image/oci"
	"brig/tests/node"
)

// TestGPUs has a node that is told of eight GPUs that are not there. What a sandbox with
// one does is for a machine that has one; here its create ends with the reason why not,
// and everything before that is real.
func TestGPUs(t *testing.T) {
	t.Parallel()
	require.Root(t)
	dir, err := oci.Root()
	if err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	if err := driver.Make(root); err != nil {
		t.Fatal(err)
	}
	if err := driver.Say(root, "mig 6", "lost 7"); err != nil {
		t.Fatal(err)
	}
	n := launch(t, node.Options{Overrides: driver.Overrides(filepath.Join(dir, "bin"), root) + "[quotas]\ngpus = 2\n"})
	eventually(t, 30*time.Second, func() error { return n.gpuStates(t, 6) })
	t.Run("info", func(t *testing.T) { gpuInfo(t, n) })
	t.Run("refusals", func(t *testing.T) { gpuRefusals(t, n) })
	t.Run("specification", func(t *testing.T) { gpuSpecification(t, n, root) })
	t.Run("a GPU goes", func(t *testing.T) { gpuGoes(t, n, root) })
}

// gpuStates wants so many to be free, and the rest to be nobody's.
func (f *fixture) gpuStates(t *testing.T, free int) error {
	t.Helper()
	var info struct {
		GPUs []struct {
			Free      bool
			Fault     string
			Sandboxes []string
		}
		GPUUnavailable string `json:"gpu_unavailable"`
	}
	text := f.Brig(t, "node", "info", "--json")
	if err := json.Unmarshal([]byte(text), &info); err != nil {
		return err
	}
	for _, g := range info.GPUs {
		if len(g.Sandboxes) > 0 {
			return fmt.Errorf("somebody has one: %s", text)
		}
		if g.Free {
			free--
		}
	}
	if free != 0 {
		return fmt.Errorf("%d too few are free: %s", free, text)
	}
	return nil
}

func gpuInfo(t *testing.T, n *fixture) {
	text := n.Brig(t, "node", "info")
	for _, line := range []string{
		"GPU driver    999.88.77",
		"GPU           0 " + driver.UUID(0) + " Mock NVIDIA A100-SXM4-40GB 42.9 GB: free",
		"turn that off with nvidia-smi -i 6 -mig 0",
		"GPU           7: cannot be given: ERROR_GPU_IS_LOST",
	} {
		if !strings.Contains(text, line) {
			t.Errorf("node info lacks %q:\n%s", line, text)
		}
	}
	res, err := n.Client.Node.Info(t.Context(), connect.NewRequest(&brigv1.InfoRequest{}))
	if err != nil || len(res.Msg.GetGpus()) != driver.GPUs || res.Msg.GetGpus()[5].GetUuid() != driver.UUID(5) {
		t.Errorf("%v, %v", res, err)
	}
	if r := n.as(t, nobody, "node", "info"); !strings.Contains(r.Stdout, "0 of 2 gpus") {
		t.Error(r)
	}
}

func gpuRefusals(t *testing.T, n *fixture) {
	_, err := os.Stat("/proc/driver/nvidia/version")
	hasDriver := err == nil
	for want, args := range map[string][]string{
		"there is no GPU 9: brig node info lists": {"--gpu", "device=9"},
		"there is no GPU GPU-0000000a":            {"--gpu", driver.UUID(10)},
		"nvidia-smi -i 6 -mig 0":                  {"--gpu", "nvidia.com/gpu=6"},
		"ERROR_GPU_IS_LOST":                       {"--gpu", "device=0,7"},
		"this node has 6 that it can give":        {"--gpu", "7"},
		"asked for twice":                         {"--gpu", "device=0," + driver.UUID(0)},
		"this node allows compute, utility":       {"--gpu", "1", "--gpu-capability", "graphics"},
		"sandboxes cannot have GPUs here":         {"--gpu", "device=0,2"},
	} {
		if hasDriver && strings.HasPrefix(want, "sandboxes cannot") {
			continue // a sandbox would be made for devices of somebody else's
		}
		if r := n.Try(t, append(append([]string{"create"}, args...), n.busybox)...); r.Code == 0 || !strings.Contains(r.Stderr, want) {
			t.Errorf("want %q: %s", want, r)
		}
	}
	if r := n.as(t, nobody, "create", "--gpu", "3", n.busybox); r.Code == 0 || !strings.Contains(r.Stderr, "at most 2 (quotas.gpus)") {
		t.Error(r)
	}
	if err := n.gpuStates(t, 6); err != nil {
		t.Errorf("after refusals: %v", err)
	}
	if ls := strings.TrimSpace(n.Brig(t, "ls", "--all", "--json")); ls != "[]" {
		t.Errorf("left: %s", ls)
	}
}

// gpuSpecification is what the shim reads.
func gpuSpecification(t *testing.T, n *fixture, root string) {
	c, err := n.Config()
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(c.CDIDir(), "nvidia.json"))
	if err != nil {
		t.Fatal(err)
	}
	var spec struct {
		Kind    string
		Devices []struct{ Name string }
	}
	if err := json.Unmarshal(data, &spec); err != nil {
		t.Fatal(err)
	}
	var names, want []string
	for _, d := range spec.Devices {
		names = append(names, d.Name)
	}
	for i := range 6 {
		want = append(want, fmt.Sprint(i), driver.UUID(i))
	}
	slices.Sort(want)
	if slices.Sort(names); spec.Kind != "nvidia.com/gpu" || !slices.Equal(names, want) {
		t.Errorf("%s %q, want %q", spec.Kind, names, want)
	}
	if !strings.Contains(string(data), root+"/usr/lib/x86_64-linux-gnu/libcuda.so.999.88.77") {
		t.Errorf("it lacks the driver's libraries:\n%s", data)
	}
}

// gpuGoes: what changes is noticed by itself.
func gpuGoes(t *testing.T, n *fixture, root string) {
	if err := os.Remove(filepath.Join(root, "dev/nvidia3")); err != nil {
		t.Fatal(err)
	}
	eventually(t, 30*time.Second, func() error { return n.gpuStates(t, 5) })
	if r := n.Try(t, "create", "--gpu", "device=3", n.busybox); r.Code == 0 || !strings.Contains(r.Stderr, "there is no /dev/nvidia3: run nvidia-modprobe -c=3") {
		t.Error(r)
	}
	if err := driver.Say(root, "none"); err != nil {
		t.Fatal(err)
	}
	eventually(t, 30*time.Second, func() error { return n.gpuStates(t, 0) })
	c, err := n.Config()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(c.CDIDir(), "nvidia.json")); !os.IsNotExist(err) {
		t.Errorf("the specification of GPUs that are not there: %v", err)
	}
}
