package gpu_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"brig/internal/config"
	"brig/internal/nvidia"
	"brig/nodeagent/doctor/gpu"
)

// node without a GPU, in a folder.
func node(t *testing.T, files map[string]string) (*config.Config, nvidia.Node) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	cfg := config.Defaults()
	cfg.Node = "n1"
	return &cfg, nvidia.Node{DriverRoot: dir, Proc: dir + "/proc", Dev: dir + "/dev", Runsc: dir + "/runsc", SpecDirs: []string{dir + "/cdi"}}
}

func printed(t *testing.T, r gpu.Report) string {
	t.Helper()
	var out strings.Builder
	if err := r.Print(&out); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestWithoutGPU(t *testing.T) {
	cfg, n := node(t, nil)
	r := gpu.Look(t.Context(), cfg, n)
	want := "refused: driver: this node has no NVIDIA GPU: ask for sandboxes without one, or use a node that has one\n" +
		"sandboxes cannot have GPUs\n"
	if diff := cmp.Diff(want, printed(t, r)); diff != "" || r.Usable() {
		t.Errorf("usable %v (-want +got):\n%s", r.Usable(), diff)
	}
	text, err := json.MarshalIndent(r, "", "  ")
	if diff := cmp.Diff(`{
  "node": "n1",
  "usable": false,
  "driver": "",
  "gpus": [],
  "findings": [
    {
      "subject": "driver",
      "problem": "this node has no NVIDIA GPU",
      "remedy": "ask for sandboxes without one, or use a node that has one",
      "refuses": true
    }
  ]
}`, string(text)); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
}

// TestEverything: what refuses comes first, and brigd's own settings are looked at.
func TestEverything(t *testing.T) {
	cfg, n := node(t, map[string]string{
		"proc/driver/nvidia/version":                       "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build  (x)\n",
		"proc/driver/nvidia/gpus/0000:41:00.0/information": "Model: \t NVIDIA H200\nGPU UUID: \t GPU-1\nBus Location: \t 0000:41:00.0\nDevice Minor: \t 0\n",
		"proc/devices": "Character devices:\n510 nvidia-uvm\n",
		"cdi/a.yaml":   "nothing",
	})
	cfg.GPU.Generator = "/nowhere/generator"
	want := `/dev/nvidia0: NVIDIA H200, GPU-1, driver 580.65.06
refused: gVisor: look for runsc: stat %DIR/runsc: no such file or directory: put brig's own runsc at runsc.path
refused: devices: there is no %DIR/dev/nvidiactl: make it anew: nvidia-modprobe, or nvidia-smi once as root
refused: devices: there is no %DIR/dev/nvidia-uvm: load the module and make its node: nvidia-modprobe -c 0 -u
refused: libraries: there is no libcuda.so.580.65.06 below %DIR, neither in the usual folders nor in those of etc/ld.so.cache: install the driver's libraries, or set gpu.driver_root
refused: devices: there is no %DIR/dev/nvidia0: make it anew: nvidia-modprobe -c 0
warning: gpu.generator: there is no /nowhere/generator: install it, or name it where it is
warning: %DIR/cdi/a.yaml: it is no CDI specification: failed to parse CDI Spec "%DIR/cdi/a.yaml": failed to unmarshal CDI Spec: yaml: unmarshal errors: line 1: cannot unmarshal !!str ` + "`nothing`" + ` into specs.Spec: generate it anew, or remove it
sandboxes cannot have GPUs
`
	if diff := cmp.Diff(strings.ReplaceAll(want, "%DIR", n.DriverRoot), printed(t, gpu.Look(t.Context(), cfg, n))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestUsable needs a driver that was understood, whatever was found.
func TestUsable(t *testing.T) {
	warning := []nvidia.Finding{{Subject: "a"}}
	for _, test := range []struct {
		report gpu.Report
		want   bool
	}{
		{gpu.Report{}, false},
		{gpu.Report{Driver: "580.65.06"}, true},
		{gpu.Report{Driver: "580.65.06", Findings: warning}, true},
		{gpu.Report{Driver: "580.65.06", Findings: append(warning, nvidia.Finding{Refuses: true})}, false},
	} {
		if got := test.report.Usable(); got != test.want {
			t.Errorf("%+v: %v", test.report, got)
		}
	}
}
