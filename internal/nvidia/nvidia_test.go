package nvidia

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"brig/internal/require"
)

// open is what the open kernel module says of itself.
const open = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  %s  Release Build  (dvs-builder@U22)  Wed Nov  5 01:03:44 UTC 2025\nGCC version:  gcc version 11.4.0\n"

// machine is a node made of files: driver 580.65.06, two GPUs, all in order.
type machine struct {
	t   *testing.T
	dir string
}

func newMachine(t *testing.T) machine {
	t.Helper()
	m := machine{t, t.TempDir()}
	m.write("proc/driver/nvidia/version", fmt.Sprintf(open, "580.65.06"))
	m.write("proc/devices", "Character devices:\n  1 mem\n195 nvidia\n195 nvidiactl\n510 nvidia-uvm\n\nBlock devices:\n259 blkext\n")
	for i, bus := range []string{"0000:41:00.0", "0000:42:00.0"} {
		m.write("proc/driver/nvidia/gpus/"+bus+"/information", fmt.Sprintf(
			"Model: \t\t NVIDIA H200\nIRQ:   \t\t 99\nGPU UUID: \t GPU-0000000%d-aaaa-bbbb-cccc-dddddddddddd\nBus Location: \t %s\nDevice Minor: \t %d\nGPU Excluded:\t No\n", i, bus, i))
		m.device(fmt.Sprintf("nvidia%d", i), 195, i)
	}
	m.device("nvidiactl", 195, 255)
	m.device("nvidia-uvm", 510, 0)
	m.write("usr/lib/x86_64-linux-gnu/libcuda.so.580.65.06", "")
	m.write("usr/lib/x86_64-linux-gnu/libcuda.so.1", "")
	m.runsc("580.65.06", "580.95.05", "615.15.00")
	return m
}

func (m machine) path(name string) string { return filepath.Join(m.dir, name) }

func (m machine) write(name, text string) {
	m.t.Helper()
	path := m.path(name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
		m.t.Fatal(err)
	}
}

func (m machine) remove(name string) {
	m.t.Helper()
	if err := os.RemoveAll(m.path(name)); err != nil {
		m.t.Fatal(err)
	}
}

func (m machine) device(name string, major, minor int) {
	m.t.Helper()
	if os.Geteuid() != 0 {
		return // tests that look at it require root
	}
	path := m.path("dev/" + name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.RemoveAll(path),
		unix.Mknod(path, unix.S_IFCHR|0o600, int(unix.Mkdev(uint32(major), uint32(minor))))); err != nil {
		m.t.Fatal(err)
	}
}

// runsc is a program that prints lines and counts how often it was asked.
func (m machine) runsc(lines ...string) {
	m.t.Helper()
	m.script("[ \"$*\" = 'nvproxy list-supported-drivers' ] || exit 9\necho >>" + m.path("asked") + "\nprintf '" + strings.Join(lines, `\n`) + `\n'`)
}

func (m machine) script(text string) {
	m.t.Helper()
	path := m.path("runsc")
	if err := errors.Join(os.WriteFile(path+".new", []byte("#!/bin/sh\n"+text+"\n"), 0o700), os.Rename(path+".new", path)); err != nil {
		m.t.Fatal(err)
	}
}

func (m machine) node() Node {
	return Node{DriverRoot: m.dir, Proc: m.path("proc"), Dev: m.path("dev"), Runsc: m.path("runsc")}
}

func lines(found []Finding) string {
	var text strings.Builder
	for _, f := range found {
		if !f.Refuses {
			text.WriteString("(warning) ")
		}
		text.WriteString(f.String() + "\n")
	}
	return text.String()
}

func TestExamine(t *testing.T) {
	require.Root(t)
	const reload = "look at the kernel's log for NVRM, and load the module anew"
	for name, test := range map[string]struct {
		change func(machine)
		minors []int
		want   string
	}{
		"in order":                 {},
		"two numbers":              {change: func(m machine) { m.version("615.15"); m.runsc("615.15.00") }},
		"only the one asked for":   {change: func(m machine) { m.remove("dev/nvidia1"); m.mig(1) }, minors: []int{0}},
		"libraries by the cache":   {change: func(m machine) { m.moveLibraries("opt/driver/x"); m.cache("opt/driver/x") }},
		"libraries of a container": {change: func(m machine) { m.moveLibraries("usr/local/nvidia/lib64") }},
		"no GPU": {
			change: func(m machine) { m.remove("proc/driver") },
			want:   "driver: this node has no NVIDIA GPU: ask for sandboxes without one, or use a node that has one\n",
		},
		"hardware without a driver": {
			change: func(m machine) {
				m.remove("proc/driver")
				m.write("proc/bus/pci/devices", "0000\t80860d57\t0\n4100\t10de2335\t10\t0\n")
			},
			want: "driver: NVIDIA's hardware is there and its kernel module is not loaded: install NVIDIA's driver, or load it: modprobe nvidia nvidia-uvm\n",
		},
		"a version that nobody understands": {
			change: func(m machine) { m.write("proc/driver/nvidia/version", "NVRM version: something else\n") },
			want:   "driver: read the driver's version: it says \"NVRM version: something else\": look at the kernel's log, and load the module nvidia\n",
		},
		"a driver that gVisor does not know": {
			change: func(m machine) { m.version("580.99.01") },
			want:   "driver: gVisor does not know version 580.99.01 of NVIDIA's driver: install one that it knows: 580.65.06, 580.95.05\n",
		},
		"a branch that gVisor does not know": {
			change: func(m machine) { m.version("470.1.2") },
			want:   "driver: gVisor does not know version 470.1.2 of NVIDIA's driver: install one that it knows: 580.65.06, 580.95.05, 615.15.00\n",
		},
		"runsc is away": {
			change: func(m machine) { m.remove("runsc") },
			want:   "gVisor: look for runsc: stat %DIR/runsc: no such file or directory: put brig's own runsc at runsc.path\n",
		},
		"runsc fails": {
			change: func(m machine) { m.script("echo no such command >&2; exit 3") },
			want:   "gVisor: ask runsc which drivers it knows: exit status 3: no such command: put brig's own runsc at runsc.path\n",
		},
		"runsc says something else": {
			change: func(m machine) { m.runsc("580.65.06", "usage: runsc") },
			want:   "gVisor: ask runsc which drivers it knows: \"usage: runsc\" is no version of a driver: put brig's own runsc at runsc.path\n",
		},
		"runsc says nothing": {
			change: func(m machine) { m.script("") },
			want:   "gVisor: ask runsc which drivers it knows: it names none: put brig's own runsc at runsc.path\n",
		},
		"no nvidiactl": {
			change: func(m machine) { m.remove("dev/nvidiactl") },
			want:   "devices: there is no %DIR/dev/nvidiactl: make it anew: nvidia-modprobe, or nvidia-smi once as root\n",
		},
		"nvidiactl is a file": {
			change: func(m machine) { m.remove("dev/nvidiactl"); m.write("dev/nvidiactl", "") },
			want:   "devices: %DIR/dev/nvidiactl is no character device: make it anew: nvidia-modprobe, or nvidia-smi once as root\n",
		},
		"nvidiactl is a link": {
			change: func(m machine) { m.remove("dev/nvidiactl"); m.link("dev/nvidiactl", "nvidia0") },
			want:   "devices: %DIR/dev/nvidiactl is no character device: make it anew: nvidia-modprobe, or nvidia-smi once as root\n",
		},
		"uvm of another major": {
			change: func(m machine) { m.device("nvidia-uvm", 237, 0) },
			want:   "devices: %DIR/dev/nvidia-uvm is device 237:0, not the driver's 510:0: load the module and make its node: nvidia-modprobe -c 0 -u\n",
		},
		"uvm is not loaded": {
			change: func(m machine) {
				m.write("proc/devices", "Character devices:\n195 nvidia\nBlock devices:\n510 nvidia-uvm\n")
			},
			want: "devices: the kernel has no devices of nvidia-uvm: load the module and make its node: nvidia-modprobe -c 0 -u\n",
		},
		"a GPU without a node": {
			change: func(m machine) { m.remove("dev/nvidia1") },
			want:   "(warning) devices: there is no %DIR/dev/nvidia1: make it anew: nvidia-modprobe -c 1\n",
		},
		"no GPU with a node": {
			change: func(m machine) { m.remove("dev/nvidia1"); m.mig(0) },
			want: "MIG: the GPU of /dev/nvidia0 is partitioned, and gVisor has no MIG: remove its instances and switch MIG off: nvidia-smi -i 0000:41:00.0 -mig 0\n" +
				"devices: there is no %DIR/dev/nvidia1: make it anew: nvidia-modprobe -c 1\n",
		},
		"the one asked for has no node": {
			change: func(m machine) { m.remove("dev/nvidia1") },
			minors: []int{0, 1},
			want:   "devices: there is no %DIR/dev/nvidia1: make it anew: nvidia-modprobe -c 1\n",
		},
		"a GPU that is not there": {
			minors: []int{7},
			want:   "devices: the driver serves no GPU with minor number 7: ask for another one: nvidia-smi -L lists them\n",
		},
		"a driver without GPUs": {
			change: func(m machine) { m.remove("proc/driver/nvidia/gpus") },
			want:   "devices: the driver is loaded and serves no GPU: look at the kernel's log for NVRM: another driver (vfio-pci, nouveau) may hold it\n",
		},
		"a GPU that says nothing": {
			change: func(m machine) { m.write("proc/driver/nvidia/gpus/0000:42:00.0/information", "") },
			want:   "devices: read about GPU 0000:42:00.0: its model, address or minor number is missing: " + reload + "\n",
		},
		"libraries of another version": {
			change: func(m machine) {
				m.remove("usr")
				m.write("usr/lib64/libcuda.so.570.172.08", "")
				m.write("usr/lib64/libcuda.so.1", "")
			},
			want: "libraries: %DIR/usr/lib64/libcuda.so.570.172.08 is of another version than the kernel module, 580.65.06: restart the machine or load the module anew after an upgrade of the driver\n",
		},
		"no libraries": {
			change: func(m machine) { m.remove("usr") },
			want:   "libraries: there is no libcuda.so.580.65.06 below %DIR, neither in the usual folders nor in those of etc/ld.so.cache: install the driver's libraries, or set gpu.driver_root\n",
		},
		"MIG": {
			change: func(m machine) { m.mig(1) },
			want:   "(warning) MIG: the GPU of /dev/nvidia1 is partitioned, and gVisor has no MIG: remove its instances and switch MIG off: nvidia-smi -i 0000:42:00.0 -mig 0\n",
		},
		"MIG on the one asked for": {
			change: func(m machine) { m.mig(1) },
			minors: []int{1},
			want:   "MIG: the GPU of /dev/nvidia1 is partitioned, and gVisor has no MIG: remove its instances and switch MIG off: nvidia-smi -i 0000:42:00.0 -mig 0\n",
		},
		"MIG, but of what": {
			change: func(m machine) { m.write("proc/driver/nvidia/capabilities/gpux/mig/config", "") },
			want:   "MIG: look for partitioned GPUs: \"gpux\" is no GPU: look whether MIG is on: nvidia-smi -q -d MIG\n",
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			if test.change != nil {
				test.change(m)
			}
			n := m.node()
			n.Minors = test.minors
			if diff := cmp.Diff(strings.ReplaceAll(test.want, "%DIR", m.dir), lines(Examine(t.Context(), n))); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func (m machine) version(v string) {
	m.write("proc/driver/nvidia/version", fmt.Sprintf(open, v))
	m.remove("usr")
	m.write("usr/lib64/libcuda.so."+v, "")
}

func (m machine) mig(minor int) {
	m.write(fmt.Sprintf("proc/driver/nvidia/capabilities/gpu%d/mig/gi0/access", minor), "DeviceFileMinor: 3\n")
}

func (m machine) link(name, to string) {
	m.t.Helper()
	if err := os.Symlink(to, m.path(name)); err != nil {
		m.t.Fatal(err)
	}
}

func (m machine) moveLibraries(to string) {
	m.remove("usr")
	m.write(to+"/libcuda.so.580.65.06", "")
}

func (m machine) cache(dir string) {
	m.write("etc/ld.so.cache", "glibc-ld.so.cache1.1\x01\x00\x02libc.so.6\x00/usr/lib/libc.so.6\x00libcuda.so.1\x00/"+dir+"/libcuda.so.1\x00")
}

// TestCheck: everything at once, and an error of the class that a refusal has.
func TestCheck(t *testing.T) {
	require.Root(t)
	m := newMachine(t)
	if err := Check(t.Context(), m.node()); err != nil {
		t.Fatal(err)
	}
	m.remove("dev/nvidiactl")
	m.remove("usr")
	m.mig(0)
	m.mig(1)
	err := Check(t.Context(), m.node())
	want := "sandboxes cannot have GPUs here: " +
		"devices: there is no " + m.dir + "/dev/nvidiactl: make it anew: nvidia-modprobe, or nvidia-smi once as root\n" +
		"libraries: there is no libcuda.so.580.65.06 below " + m.dir + ", neither in the usual folders nor in those of etc/ld.so.cache: install the driver's libraries, or set gpu.driver_root\n" +
		"MIG: the GPU of /dev/nvidia0 is partitioned, and gVisor has no MIG: remove its instances and switch MIG off: nvidia-smi -i 0000:41:00.0 -mig 0\n" +
		"MIG: the GPU of /dev/nvidia1 is partitioned, and gVisor has no MIG: remove its instances and switch MIG off: nvidia-smi -i 0000:42:00.0 -mig 0"
	if diff := cmp.Diff(want, fmt.Sprint(err)); diff != "" || !errdefs.IsFailedPrecondition(err) {
		t.Errorf("%v (-want +got):\n%s", errdefs.IsFailedPrecondition(err), diff)
	}
}

// TestZeroNode: a check that was told nothing refuses.
func TestZeroNode(t *testing.T) {
	if err := Check(t.Context(), Node{}); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("got %v", err)
	}
}

// TestAskedOnce: runsc is started for the first check alone, and when it was replaced.
func TestAskedOnce(t *testing.T) {
	m := newMachine(t)
	asked := func() int {
		t.Helper()
		for range 3 {
			if _, err := Supported(t.Context(), m.path("runsc")); err != nil {
				t.Fatal(err)
			}
		}
		text, err := os.ReadFile(m.path("asked"))
		if err != nil {
			t.Fatal(err)
		}
		return len(text)
	}
	if n := asked(); n != 1 {
		t.Errorf("asked %d times", n)
	}
	m.runsc("570.1.2")
	if n := asked(); n != 2 {
		t.Errorf("asked %d times once it was replaced", n)
	}
	if v, err := Supported(t.Context(), m.path("runsc")); err != nil || len(v) != 1 || v[0].String() != "570.1.2" {
		t.Errorf("%v, %v", v, err)
	}
}

// TestRunsc: what brig's own gVisor says is understood.
func TestRunsc(t *testing.T) {
	versions, err := Supported(t.Context(), filepath.Join(require.Runsc(t), "deps", "runsc"))
	if err != nil || len(versions) < 10 {
		t.Fatalf("%v, %v", versions, err)
	}
	for _, v := range versions {
		if v.Branch() < 500 {
			t.Errorf("%s", v)
		}
	}
}

func TestDriver(t *testing.T) {
	for text, want := range map[string]string{
		fmt.Sprintf(open, "580.65.06"): "580.65.06",
		"NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.129.03  Thu Oct 19 18:56:32 UTC 2023\nGCC version:\n": "535.129.03",
		"NVRM version: NVIDIA UNIX aarch64 Kernel Module  615.15  Thu Oct 19 18:56:32 UTC 2026\n":                  "615.15",
		"NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.129.03.1  Thu\n":                                      "",
		"NVRM version: NVIDIA UNIX x86_64 Kernel Module  -1.2  Thu Oct\n":                                          "",
		"NVRM version: NVIDIA UNIX x86_64 Kernel Module":                                                           "",
		"NVRM version: NVIDIA UNIX Open Kernel Module for x86_64":                                                  "",
		"version: NVIDIA NVRM UNIX x86_64 Kernel Module  535.129.03  Thu Oct\n":                                    "",
		"": "",
	} {
		dir := t.TempDir()
		if err := errors.Join(os.MkdirAll(dir+"/driver/nvidia", 0o755), os.WriteFile(dir+"/driver/nvidia/version", []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
		if v, err := Driver(dir); v.String() != want || (err == nil) != (want != "") {
			t.Errorf("%q: %s, %v", text, v, err)
		}
	}
	if _, err := Driver(t.TempDir()); !errdefs.IsNotFound(err) {
		t.Errorf("none: %v", err)
	}
}

func TestGPUs(t *testing.T) {
	got, err := GPUs(newMachine(t).path("proc"))
	if diff := cmp.Diff([]GPU{
		{UUID: "GPU-00000000-aaaa-bbbb-cccc-dddddddddddd", Model: "NVIDIA H200", Bus: "0000:41:00.0"},
		{UUID: "GPU-00000001-aaaa-bbbb-cccc-dddddddddddd", Model: "NVIDIA H200", Bus: "0000:42:00.0", Minor: 1},
	}, got); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
}

func FuzzDriver(f *testing.F) {
	f.Add(fmt.Sprintf(open, "580.65.06"))
	f.Add("NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.129.03  Thu Oct 19 18:56:32 UTC 2023\n")
	f.Fuzz(func(t *testing.T, text string) {
		v, err := parseDriver(text)
		if (err == nil) != (v.String() != "") || strings.Trim(v.String(), "0123456789.") != "" || !strings.Contains(text, v.String()) {
			t.Errorf("%q is %v, %v", text, v, err)
		}
	})
}

func FuzzGPU(f *testing.F) {
	f.Add("Model: \t\t NVIDIA H200\nGPU UUID: \t GPU-1\nBus Location: \t 0000:41:00.0\nDevice Minor: \t 0\nGPU Excluded:\t No\n")
	f.Fuzz(func(t *testing.T, text string) {
		if g, _, err := parseGPU(text); err == nil && (g.Minor < 0 || g.Model == "" || g.Bus == "") {
			t.Errorf("%q is %+v", text, g)
		}
	})
}
