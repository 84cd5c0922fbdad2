//go:build mock

package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	"tags.cncf.io/container-device-interface/specs-go"
)

// driverRoot makes what an installed driver has, with the lines for the mock.
func driverRoot(t *testing.T, lines ...string) string {
	t.Helper()
	if os.Geteuid() != 0 {
		if strings.Contains(os.Getenv("BRIG_REQUIRE"), "root") {
			t.Fatal("device nodes are made by root: sudo make test")
		}
		t.Skip("needs root: device nodes are made")
	}
	root := t.TempDir()
	const lib = "usr/lib/x86_64-linux-gnu/"
	for _, name := range []string{
		lib + "libcuda.so.999.88.77", lib + "libnvidia-ml.so.999.88.77", lib + "libnvidia-ptxjitcompiler.so.999.88.77",
		"usr/bin/nvidia-smi", "lib/firmware/nvidia/999.88.77/gsp_ga10x.bin", "etc/ld.so.conf",
		"run/nvidia-persistenced/socket",
	} {
		put(t, filepath.Join(root, name), "")
	}
	put(t, filepath.Join(root, "tests/gpus"), strings.Join(lines, "\n"))
	link(t, "libcuda.so.999.88.77", filepath.Join(root, lib, "libcuda.so.1"))
	link(t, "libnvidia-ml.so.999.88.77", filepath.Join(root, lib, "libnvidia-ml.so.1"))
	for name, device := range map[string]uint64{
		"nvidiactl": unix.Mkdev(195, 255), "nvidia-modeset": unix.Mkdev(195, 254), "nvidia-uvm": unix.Mkdev(511, 0), "nvidia-uvm-tools": unix.Mkdev(511, 1),
		"nvidia0": unix.Mkdev(195, 0), "nvidia1": unix.Mkdev(195, 1), "nvidia2": unix.Mkdev(195, 2), "nvidia3": unix.Mkdev(195, 3),
		"nvidia4": unix.Mkdev(195, 4), "nvidia5": unix.Mkdev(195, 5), "nvidia6": unix.Mkdev(195, 6), "nvidia7": unix.Mkdev(195, 7),
	} {
		node(t, filepath.Join(root, "dev", name), device)
	}
	return root
}

func put(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
}

func link(t *testing.T, to, path string) {
	t.Helper()
	if err := os.Symlink(to, path); err != nil {
		t.Fatal(err)
	}
}

func node(t *testing.T, path string, device uint64) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mknod(path, unix.S_IFCHR|0o600, int(device)); err != nil {
		t.Fatal(err)
	}
}

const hook = "/usr/local/libexec/brig/nvidia-cdi-hook"

// written is what the program writes for root, whose path is taken out.
func written(t *testing.T, root string) string {
	t.Helper()
	var stdout, stderr bytes.Buffer
	if err := run([]string{"-driver-root", root, "-hook", hook}, &stdout, &stderr); err != nil {
		t.Fatalf("%v\n%s", err, &stderr)
	}
	return strings.ReplaceAll(stdout.String(), root, "/driver")
}

func document(t *testing.T, root string) (d Document) {
	t.Helper()
	if err := json.Unmarshal([]byte(written(t, root)), &d); err != nil {
		t.Fatal(err)
	}
	return d
}

// TestGoldenDocument: each line of it was looked at; UPDATE=1 writes it anew.
func TestGoldenDocument(t *testing.T) {
	got := written(t, driverRoot(t, "mig 6", "lost 7"))
	const path = "testdata/document.json"
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("it differs from %s:\n%s", path, got)
	}
}

// TestTheSameBytes of the same driver, in whatever order its files were made.
func TestTheSameBytes(t *testing.T) {
	want := written(t, driverRoot(t))
	for n := range 100 {
		root := driverRoot(t)
		if got := written(t, root); got != want {
			t.Fatalf("run %d:\n%s\nand before:\n%s", n, got, want)
		}
	}
}

// TestNoSocket: one among the mounts would end the gofer.
func TestNoSocket(t *testing.T) {
	d := document(t, driverRoot(t))
	for _, m := range d.CDI.ContainerEdits.Mounts {
		if strings.Contains(m.HostPath, "/run/") {
			t.Errorf("mount %s", m.HostPath)
		}
	}
}

// TestEveryHookIsKnown to runsc and to brig.
func TestEveryHookIsKnown(t *testing.T) {
	d := document(t, driverRoot(t))
	check := func(hooks []*specs.Hook) {
		for _, h := range hooks {
			known := strings.Contains(" create-symlinks update-ldcache enable-cuda-compat disable-device-node-modification ", " "+h.Args[1]+" ")
			if h.Path != hook || h.HookName != "createContainer" || !known {
				t.Errorf("%s %s %v", h.HookName, h.Path, h.Args)
			}
		}
	}
	check(d.CDI.ContainerEdits.Hooks)
	for _, gpu := range d.CDI.Devices {
		check(gpu.ContainerEdits.Hooks)
	}
}

// TestUnavailable: what is not there is said, with what to do.
func TestUnavailable(t *testing.T) {
	for name, c := range map[string]struct {
		lines  string
		remove string
		want   string
	}{
		"no driver":        {lines: "none", want: "there is no NVIDIA driver"},
		"no uvm node":      {remove: "nvidia-uvm", want: "run nvidia-modprobe -u -c=0"},
		"all are MIG's":    {lines: "mig 0\nmig 1\nmig 2\nmig 3\nmig 4\nmig 5\nmig 6\nmig 7"},
		"all have no /dev": {remove: "nvidia[0-9]"},
	} {
		root := driverRoot(t, c.lines)
		gone, err := filepath.Glob(filepath.Join(root, "dev", c.remove))
		if err != nil || c.remove != "" && len(gone) == 0 {
			t.Fatal(gone, err)
		}
		for _, path := range gone {
			if c.remove != "" {
				_ = os.Remove(path)
			}
		}
		d := document(t, root)
		if d.CDI != nil || !strings.Contains(d.Unavailable, c.want) || c.want == "" && d.Unavailable != "" {
			t.Errorf("%s: %q, %+v", name, d.Unavailable, d.CDI)
		}
	}
}

// TestOneWithoutItsNode takes no other with it.
func TestOneWithoutItsNode(t *testing.T) {
	root := driverRoot(t)
	if err := os.Remove(filepath.Join(root, "dev/nvidia3")); err != nil {
		t.Fatal(err)
	}
	d := document(t, root)
	if len(d.CDI.Devices) != 14 || !strings.Contains(d.GPUs[3].Fault, "run nvidia-modprobe -c=3") || d.GPUs[4].Fault != "" {
		t.Errorf("%d devices, %+v", len(d.CDI.Devices), d.GPUs)
	}
}

func TestRefused(t *testing.T) {
	for want, args := range map[string][]string{
		"-hook \"\"":                   {},
		"-hook \"nvidia-cdi-hook\"":    {"-hook", "nvidia-cdi-hook"},
		"ends in /nvidia-cdi-hook":     {"-hook", "/usr/bin/nvidia-ctk"},
		"-driver-root \"driver\"":      {"-hook", hook, "-driver-root", "driver"},
		"unknown argument \"inspect\"": {"-hook", hook, "inspect"},
	} {
		var stdout, stderr bytes.Buffer
		if err := run(args, &stdout, &stderr); err == nil || !strings.Contains(err.Error(), want) || stdout.Len() > 0 {
			t.Errorf("%v: %v, want %s", args, err, want)
		}
	}
	var stdout, stderr bytes.Buffer
	err := run([]string{"-hook", hook, "-driver-root", driverRoot(t, "fail")}, &stdout, &stderr)
	if err == nil || !strings.Contains(err.Error(), "start NVML") || stdout.Len() > 0 {
		t.Errorf("NVML does not start: %v", err)
	}
}
