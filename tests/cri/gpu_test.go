package cri

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"brig/internal/netns"
	"brig/internal/require"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// driverVersion is one that nvproxy knows.
const driverVersion = "580.65.06"

// driverWorld shows the command that it is given what NVIDIA's driver would leave in /proc
// and /dev, in a mount namespace of its own. Nobody answers behind the nodes: of a GPU's
// way into a sandbox everything is real but the GPU, and the driver's version, which runsc
// would ask of a node, is told on its command line.
const driverWorld = `set -e
mount -t tmpfs tmpfs /proc/driver
mkdir -p /proc/driver/nvidia/gpus/0000:01:00.0
echo "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  ` + driverVersion + `  Release Build" > /proc/driver/nvidia/version
echo "ModifyDeviceFiles: 1" > /proc/driver/nvidia/params
printf 'Model: \t\t NVIDIA H100\nGPU UUID: \t GPU-1\nBus Location: \t 0000:01:00.0\nDevice Minor: \t 0\nGPU Excluded:\t No\n' > /proc/driver/nvidia/gpus/0000:01:00.0/information
{ echo "Character devices:"; echo "195 nvidia"; echo "510 nvidia-uvm"; sed 1d /proc/devices; } > {{.Dir}}/devices
mount --bind {{.Dir}}/devices /proc/devices
mkdir {{.Dir}}/dev
mount -t tmpfs -o mode=755 tmpfs {{.Dir}}/dev
cd {{.Dir}}/dev
cp -a /dev/null /dev/zero /dev/full /dev/random /dev/urandom /dev/tty .
ln -s /proc/self/fd fd
ln -s pts/ptmx ptmx
mkdir pts shm
mount --bind /dev/pts pts
mount --bind /dev/shm shm
mknod nvidiactl c 195 255
mknod nvidia0 c 195 0
mknod nvidia-uvm c 510 0
mknod nvidia-uvm-tools c 510 1
cd /
mount --move {{.Dir}}/dev /dev
exec "$@"
`

// cdiSpec is what nvidia-ctk writes, of a node with two GPUs, of which the driver serves
// one.
const cdiSpec = `{
  "cdiVersion": "0.7.0", "kind": "nvidia.com/gpu",
  "devices": [
    {"name": "0", "containerEdits": {"deviceNodes": [{"path": "/dev/nvidia0", "type": "c", "major": 195, "minor": 0}]}},
    {"name": "1", "containerEdits": {"deviceNodes": [{"path": "/dev/nvidia1", "type": "c", "major": 195, "minor": 1}]}}
  ],
  "containerEdits": {
    "env": ["NVIDIA_VISIBLE_DEVICES=void"],
    "deviceNodes": [
      {"path": "/dev/nvidia-modeset", "type": "c", "major": 195, "minor": 254},
      {"path": "/dev/nvidia-uvm-tools", "type": "c", "major": 510, "minor": 1},
      {"path": "/dev/nvidia-uvm", "type": "c", "major": 510, "minor": 0},
      {"path": "/dev/nvidiactl", "type": "c", "major": 195, "minor": 255}
    ],
    "hooks": [
      {"hookName": "createContainer", "path": "/usr/bin/nvidia-cdi-hook", "args": ["nvidia-cdi-hook", "create-symlinks", "--link", "libcuda.so.` + driverVersion + `::/usr/lib/x86_64-linux-gnu/libcuda.so"]},
      {"hookName": "createContainer", "path": "/usr/bin/nvidia-cdi-hook", "args": ["nvidia-cdi-hook", "update-ldcache", "--folder", "/usr/lib/x86_64-linux-gnu"]},
      {"hookName": "createContainer", "path": "/usr/bin/nvidia-cdi-hook", "args": ["nvidia-cdi-hook", "disable-device-node-modification"]}
    ],
    "mounts": [
      {"hostPath": "{{.Dir}}/driver/usr/lib/x86_64-linux-gnu/libcuda.so.` + driverVersion + `", "containerPath": "/usr/lib/x86_64-linux-gnu/libcuda.so.` + driverVersion + `", "options": ["ro", "nosuid", "nodev", "rbind", "rprivate"]}
    ]
  }
}`

// gpuConfig is a node's for containers with GPUs: those of its own pods add that all
// sandboxes are for GPUs.
const gpuConfig = `
node = "{{.Name}}"
state_dir = "{{.Dir}}/brig"
run_dir = "/run/brig-{{.Name}}"
[runsc]
path = "{{.Dir}}/runsc"
[sandboxes]
guest = "{{.Bin}}/guest"
[gpu]
driver_root = "{{.Dir}}/driver"
spec_dirs = ["{{.Dir}}/cdi"]
`

// gpuSpec is what ctr makes of --device nvidia.com/gpu=0.
const gpuSpec = `{
  "ociVersion": "1.2.1",
  "process": {"args": ["sh", "-c", "ls /dev | grep nvidia; cat /usr/lib/libcuda.so"], "cwd": "/", "env": ["PATH=/bin", "NVIDIA_VISIBLE_DEVICES=void"], "user": {}},
  "root": {"path": "{{.Dir}}/root-of-ctr"},
  "annotations": {"brig/block-network": "true"},
  "mounts": [
    {"destination": "/proc", "type": "proc", "source": "proc"},
    {"destination": "/usr/lib/libcuda.so.` + driverVersion + `", "source": "{{.Dir}}/driver/usr/lib/x86_64-linux-gnu/libcuda.so.` + driverVersion + `", "options": ["ro", "rbind"]}
  ],
  "hooks": {"createContainer": [{"path": "/usr/bin/nvidia-ctk", "args": ["nvidia-ctk", "hook", "create-symlinks", "--link", "libcuda.so.` + driverVersion + `::/usr/lib/libcuda.so"]}]},
  "linux": {
    "cgroupsPath": "/brig-{{.Name}}/ctr-gpu",
    "devices": [{"path": "/dev/nvidiactl", "type": "c", "major": 195, "minor": 255}, {"path": "/dev/nvidia0", "type": "c", "major": 195, "minor": 0}],
    "namespaces": [{"type": "pid"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}]
  }
}`

// gpu asks for one as NVIDIA's device plugin does. The image's author asks for all.
func gpu(name string) func(*cri.ContainerConfig) {
	return func(c *cri.ContainerConfig) {
		c.CDIDevices = []*cri.CDIDevice{{Name: "nvidia.com/gpu=" + name}}
		c.Envs = append(c.Envs, &cri.KeyValue{Key: "NVIDIA_VISIBLE_DEVICES", Value: []byte("all")})
	}
}

// wantNoGPU wants a container with GPU name to be refused with the line.
func (p *pod) wantNoGPU(name, line string) {
	p.t.Helper()
	config := p.containerConfig("gpu-"+name, "true")
	gpu(name)(config)
	c, err := p.create(config)
	if err == nil {
		err = c.start()
	}
	if err == nil || !strings.Contains(err.Error(), line) {
		p.t.Errorf("GPU %s: %v; want %q", name, err, line)
	}
}

// TestGPUInAPodWithout: its sandbox was booted without the driver's part, and would crash.
// The pod goes on.
func TestGPUInAPodWithout(t *testing.T) {
	under(t, []string{brig, brigPodsandbox}, func(t *testing.T, n *node, handler string) {
		p := n.run(t, handler)
		p.wantNoGPU("0", "give the pod the handler brig-gpu")
		p.start("plain", "true").wantExit(0)
	})
}

// TestGPUPod: a sandbox of handler brig-gpu has the driver's part from its boot, and a
// container in it exactly the GPU that it asks for. Everything is real but the GPU.
func TestGPUPod(t *testing.T) {
	require.Net(t)
	require.Runsc(t)
	t.Parallel()
	name := fmt.Sprintf("cri-%06x", rand.Uint32()&0xffffff)
	if err := netns.Create(name); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := netns.Delete(name); err != nil {
			t.Error(err)
		}
	})
	if out, err := exec.CommandContext(t.Context(), "ip", "-n", name, "link", "set", "lo", "up").CombinedOutput(); err != nil {
		t.Fatalf("raise loopback: %v: %s", err, out)
	}
	n := launch(t, netns.Path(name), func(n *node) {
		n.world = []string{"unshare", "--mount", "--propagation=private", "sh", filepath.Join(n.dir, "world.sh")}
	})
	p := n.run(t, brigGPU)
	for _, cmdline := range n.processesOf(p.id) {
		if strings.Contains(cmdline, "gvisor_sentry") && !strings.Contains(cmdline, "--nvproxy=true") {
			t.Errorf("the sentry runs as %s, want it with nvproxy", cmdline)
		}
	}
	p.start("plain", "sh", "-c", "! ls /dev | grep nvidia").wantExit(0)
	const void = "NVIDIA_DRIVER_CAPABILITIES=compute,utility\nNVIDIA_VISIBLE_DEVICES=void\n"
	if got := p.startWith(gpu("0"), "environment", "sh", "-c", "env | grep NVIDIA | sort").output(); got != void {
		t.Errorf("environment %q, want %q", got, void)
	}
	c := p.startWith(gpu("0"), "gpu", "sleep", "1000")
	for command, want := range map[string]string{
		"ls /dev | grep nvidia":                                   "nvidia-uvm\nnvidia-uvm-tools\nnvidia0\nnvidiactl\n",
		"cat /usr/lib/x86_64-linux-gnu/libcuda.so":                "the library\n",
		"test -s /etc/ld.so.cache && echo cache":                  "cache\n",
		"cat /proc/driver/nvidia/params 2>/dev/null; echo":        "ModifyDeviceFiles: 0\n\n",
		"cat /dev/nvidia0 >/dev/null 2>&1 || echo nobody answers": "nobody answers\n",
	} {
		if got := c.sh(command); got != want {
			t.Errorf("%s: %q, want %q", command, got, want)
		}
	}
	c.wantRunning() // also after it has knocked at the GPU
	p.wantNoGPU("1", "minor number 1")
	n.ctrGPU(t)
}

// ctrGPU runs a container whose sandbox is its own, and is for GPUs because it asks for one.
func (n *node) ctrGPU(t *testing.T) {
	t.Helper()
	root := filepath.Join(n.dir, "root-of-ctr")
	busybox, err := os.ReadFile("/bin/busybox")
	err = errors.Join(err, os.MkdirAll(filepath.Join(root, "bin"), 0o755), os.WriteFile(filepath.Join(root, "bin/busybox"), busybox, 0o755))
	for _, name := range []string{"sh", "ls", "grep", "cat"} {
		err = errors.Join(err, os.Symlink("busybox", filepath.Join(root, "bin", name)))
	}
	if err != nil {
		t.Fatal(err)
	}
	ctr := exec.CommandContext(call(t), filepath.Join(n.bin, "deps/ctr"), "--address", filepath.Join(n.dir, "containerd.sock"), "run", "--rm",
		"--runtime", "io.containerd.brig.v1", "--runtime-config-path", filepath.Join(n.dir, "gpu-asked.toml"),
		"--config", filepath.Join(n.dir, "gpu-spec.json"), "ctr-gpu")
	const want = "nvidia0\nnvidiactl\nthe library\n"
	var stderr strings.Builder
	ctr.Stderr = &stderr
	if out, err := ctr.Output(); err != nil || string(out) != want {
		t.Errorf("ctr: %q, %v; want %q\n%s", out, err, want, &stderr)
	}
}
