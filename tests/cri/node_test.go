package cri

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"text/template"
	"time"

	"brig/internal/config"
	"brig/internal/netns"
	"brig/internal/transit"
	"brig/tests/image/oci"
	"brig/tests/registry"

	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// node is a containerd with the CRI plugin and brig's shim and plugin, under a
// directory and in a network namespace of its own.
type node struct {
	cri.RuntimeServiceClient

	dir, bin string
	name     string   // the brig node's, and of its cgroups
	netns    string   // path
	world    []string // a command that runs another where containerd is to live
	images   cri.ImageServiceClient
	busybox  string // a reference that was pulled
	labelled string // the same with labels that name annotations

	conn       *grpc.ClientConn
	registry   *registry.Registry
	containerd *exec.Cmd
	ended      chan struct{} // closed once containerd has been waited for
}

// newNode prepares a node that lives in the network namespace at path; stop must be
// called even on an error.
func newNode(path string, edit ...func(*node)) (*node, error) {
	root, err := oci.Root()
	if err != nil {
		return nil, err
	}
	// Short: the paths of the sockets below it are bounded.
	dir, err := os.MkdirTemp("/tmp", "brig-")
	if err != nil {
		return nil, err
	}
	n := &node{dir: dir, bin: filepath.Join(root, "bin"), netns: path, name: fmt.Sprintf("c%06x", rand.Uint32()&0xffffff)}
	for _, e := range edit {
		e(n)
	}
	return n, errors.Join(n.serveImages(), n.write(), n.start(), n.pull())
}

// launch starts a node that ends with t, which fails if it leaves anything.
func launch(t *testing.T, path string, edit ...func(*node)) *node {
	t.Helper()
	n, err := newNode(path, edit...)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("containerd's last words:\n%s", n.log(60))
		}
		if err := n.stop(); err != nil {
			t.Error(err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// serveImages puts busybox, and the pause image made from it, on the namespace's
// loopback.
func (n *node) serveImages() error {
	img, err := oci.Recipe{}.Image(context.Background())
	if err != nil {
		return err
	}
	file, err := img.ConfigFile()
	if err != nil {
		return err
	}
	pause := file.Config.DeepCopy()
	pause.Cmd = []string{"/bin/sleep", "2147483647"}
	pauseImage, err := mutate.Config(img, *pause)
	if err != nil {
		return err
	}
	var listener net.Listener
	err = netns.Do(n.netns, func() (err error) {
		var lc net.ListenConfig
		listener, err = lc.Listen(context.Background(), "tcp4", "127.0.0.1:0")
		return err
	})
	if err != nil {
		return err
	}
	n.registry = registry.Serve(listener)
	if n.busybox, err = n.registry.Push("busybox:1", img); err != nil {
		return err
	}
	labelled := file.Config.DeepCopy() // by an author who would like to choose the policy
	labelled.Labels = map[string]string{"brig/cidr-allowlist": "0.0.0.0/0", "brig/block-network": "true", "dev.gvisor.flag.network": "host"}
	labelledImage, err := mutate.Config(img, *labelled)
	if err != nil {
		return err
	}
	if n.labelled, err = n.registry.Push("labelled:1", labelledImage); err != nil {
		return err
	}
	_, err = n.registry.Push("pause:1", pauseImage)
	return err
}

// files of the node, by their paths below its directory. brig's own network and a plain
// one differ in the folder that a handler reads. The handler brig is the one that is
// shipped.
var files = map[string]string{
	"config.toml": `
node = "{{.Name}}"
state_dir = "{{.Dir}}/brig"
run_dir = "/run/brig-{{.Name}}"
[runsc]
path = "{{.Bin}}/deps/runsc"
[sandboxes]
guest = "{{.Bin}}/guest"
`,
	"narrow.toml": `
node = "{{.Name}}"
state_dir = "{{.Dir}}/brig"
run_dir = "/run/brig-{{.Name}}"
[runsc]
path = "{{.Bin}}/deps/runsc"
[sandboxes]
guest = "{{.Bin}}/guest"
[network.default]
cidr_allowlist = ["203.0.113.0/28"]
[network.ceiling]
cidr_allowlist = ["203.0.113.0/24", "9.9.9.9/32"]
`,
	"cni/brig/10-brig.conflist": `{
  "cniVersion": "1.1.0", "name": "brig",
  "plugins": [{"type": "brig-cni", "config": "{{.Dir}}/config.toml", "capabilities": {"portMappings": true}}]
}`,
	"cni/plain/10-plain.conflist": `{
  "cniVersion": "1.0.0", "name": "plain",
  "plugins": [{"type": "ptp", "ipam": {
    "type": "host-local", "dataDir": "{{.Dir}}/ipam",
    "ranges": [[{"subnet": "10.200.0.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]
  }}]
}`,
	// What an import says counts, the last one's most.
	"gpu-handler.toml": `
version = 3
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.brig-gpu.options]
ConfigPath = "{{.Dir}}/gpu.toml"
`,
	"gpu-asked.toml":  gpuConfig,
	"gpu.toml":        gpuConfig + "sandboxes = \"all\"\n",
	"gpu-spec.json":   gpuSpec,
	"cdi/nvidia.json": cdiSpec,
	"world.sh":        driverWorld,
	"runsc":           "#!/bin/sh\nexec {{.Bin}}/deps/runsc --nvproxy-driver-version=" + driverVersion + " \"$@\"\n",
	"driver/usr/lib/x86_64-linux-gnu/libcuda.so." + driverVersion: "the library\n",
	"containerd.toml": `
version = 3
imports = ["{{.Root}}/deploy/containerd-system.toml", "{{.Dir}}/gpu-handler.toml"]
root = "{{.Dir}}/root"
state = "{{.Dir}}/state"
temp = "{{.Dir}}/tmp"
disabled_plugins = ["io.containerd.image-verifier.v1.bindir"]
[grpc]
address = "{{.Dir}}/containerd.sock"
[ttrpc]
address = "{{.Dir}}/containerd.sock.ttrpc"
[plugins."io.containerd.shim.v1.manager"]
socket_dir = "{{.Dir}}/s"
[plugins."io.containerd.internal.v1.opt"]
path = "{{.Dir}}/opt"
[plugins."io.containerd.nri.v1.nri"]
disable = true
[plugins."io.containerd.cri.v1.images".pinned_images]
sandbox = "{{.Pause}}"
[plugins."io.containerd.cri.v1.runtime"]
restrict_oom_score_adj = true
netns_mounts_under_state_dir = true
cdi_spec_dirs = ["{{.Dir}}/cdi"]
[plugins."io.containerd.cri.v1.runtime".cni]
bin_dirs = ["{{.Bin}}", "{{.Bin}}/deps/cni"]
conf_dir = "{{.Dir}}/cni/plain"
use_internal_loopback = true
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
BinaryName = "{{.Bin}}/deps/runc"
Root = "{{.Dir}}/runc"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.brig]
cni_conf_dir = "{{.Dir}}/cni/brig"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.brig-plain]
runtime_type = "io.containerd.brig.v1"
sandboxer = "shim"
disable_pause_image_pull = true
pod_annotations = ["brig/*"]
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.brig-podsandbox]
runtime_type = "io.containerd.brig.v1"
sandboxer = "podsandbox"
pod_annotations = ["brig/*"]
cni_conf_dir = "{{.Dir}}/cni/brig"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.brig-narrow]
runtime_type = "io.containerd.brig.v1"
sandboxer = "shim"
disable_pause_image_pull = true
pod_annotations = ["brig/*"]
cni_conf_dir = "{{.Dir}}/cni/brig"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.brig-narrow.options]
ConfigPath = "{{.Dir}}/narrow.toml"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.brig-narrow-podsandbox]
runtime_type = "io.containerd.brig.v1"
sandboxer = "podsandbox"
pod_annotations = ["brig/*"]
cni_conf_dir = "{{.Dir}}/cni/brig"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.brig-narrow-podsandbox.options]
ConfigPath = "{{.Dir}}/narrow.toml"
`,
}

func (n *node) write() error {
	for name, text := range files {
		path := filepath.Join(n.dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o755)
		if err != nil {
			return err
		}
		err = template.Must(template.New(name).Parse(text)).Execute(f, map[string]string{
			"Name": n.name, "Dir": n.dir, "Bin": n.bin, "Root": filepath.Dir(n.bin), "Pause": strings.Replace(n.busybox, "/busybox:", "/pause:", 1),
		})
		if err := errors.Join(err, f.Close()); err != nil {
			return err
		}
	}
	return nil
}

// cgroupParent is where a kubelet would put the node's pods.
func (n *node) cgroupParent() string { return "/brig-" + n.name }

func (n *node) logPath() string { return filepath.Join(n.dir, "containerd.log") }

// log returns the last lines that containerd and the shims wrote.
func (n *node) log(lines int) string {
	data, err := os.ReadFile(n.logPath())
	if err != nil {
		return err.Error()
	}
	list := strings.Split(strings.TrimRight(string(data), "\n"), "\n")
	return strings.Join(list[max(0, len(list)-lines):], "\n")
}

// start runs containerd until its CRI plugin answers.
func (n *node) start() error {
	log, err := os.OpenFile(n.logPath(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	argv := append([]string{"--net=" + n.netns}, n.world...)
	n.containerd = exec.Command("nsenter", append(argv, filepath.Join(n.bin, "deps", "containerd"), "--config", filepath.Join(n.dir, "containerd.toml"))...)
	n.containerd.Env = append(os.Environ(),
		"PATH="+n.bin+":"+filepath.Join(n.bin, "deps")+":"+os.Getenv("PATH"), config.EnvPath+"="+filepath.Join(n.dir, "config.toml"))
	n.containerd.Stdout, n.containerd.Stderr = log, log
	if err := n.containerd.Start(); err != nil {
		return err
	}
	ended := make(chan struct{})
	n.ended = ended
	go func(cmd *exec.Cmd) { _ = cmd.Wait(); close(ended) }(n.containerd)
	if n.conn, err = grpc.NewClient("unix://"+filepath.Join(n.dir, "containerd.sock"), grpc.WithTransportCredentials(insecure.NewCredentials())); err != nil {
		return err
	}
	n.RuntimeServiceClient, n.images = cri.NewRuntimeServiceClient(n.conn), cri.NewImageServiceClient(n.conn)
	return n.ready()
}

// ready waits until containerd's runtime and every handler's network are.
func (n *node) ready() error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for {
		s, err := n.Status(ctx, &cri.StatusRequest{})
		ready := err == nil
		for _, c := range s.GetStatus().GetConditions() {
			ready = ready && (c.GetStatus() || c.GetType() == "ContainerdHasNoDeprecationWarnings")
		}
		if ready {
			return nil
		}
		select {
		case <-n.ended:
			return fmt.Errorf("containerd ended at its start:\n%s", n.log(30))
		case <-ctx.Done():
			return fmt.Errorf("containerd's CRI plugin is not ready: %w; %v\n%s", err, s, n.log(30))
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (n *node) pull() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var errs []error
	for _, image := range []string{n.busybox, n.labelled} {
		_, err := n.images.PullImage(ctx, &cri.PullImageRequest{Image: &cri.ImageSpec{Image: image}})
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// end ends containerd; its pods go on.
func (n *node) end(sig syscall.Signal) error {
	if n.ended == nil {
		return nil
	}
	err := errors.Join(n.conn.Close(), n.containerd.Process.Signal(sig))
	select {
	case <-n.ended:
		n.ended = nil
		return err
	case <-time.After(20 * time.Second):
		return errors.Join(err, fmt.Errorf("containerd did not end within 20 s of %v", sig))
	}
}

// stop removes the pods and ends the node. What is left then is an error, and is
// cleared away.
func (n *node) stop() error {
	if n == nil {
		return nil
	}
	var errs []error
	if n.ended != nil {
		errs = append(errs, n.removePods(), n.end(syscall.SIGTERM), n.left())
	}
	errs = append(errs, n.clear())
	if n.registry != nil {
		errs = append(errs, n.registry.Close())
	}
	return errors.Join(append(errs, os.RemoveAll(n.dir))...)
}

func (n *node) removePods() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	list, err := n.ListPodSandbox(ctx, &cri.ListPodSandboxRequest{})
	errs := []error{err}
	for _, p := range list.GetItems() {
		_, err := n.RemovePodSandbox(ctx, &cri.RemovePodSandboxRequest{PodSandboxId: p.GetId()})
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// left waits for the node's processes and mounts to go and reports those that stay.
func (n *node) left() error {
	var left []string
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		left = left[:0]
		for pid, cmdline := range n.processes() {
			left = append(left, fmt.Sprintf("process %d %s", pid, cmdline))
		}
		for _, path := range n.mounts() {
			if filepath.Base(path) != "null-netns" { // runsc's, one for a node
				left = append(left, "mount "+path)
			}
		}
		for _, path := range n.cgroups() {
			left = append(left, "cgroup "+path)
		}
		if len(left) == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("the node ended in order and left:\n  %s", strings.Join(left, "\n  "))
		}
	}
}

// processes are those that name the node's directories in their command line or
// environment.
func (n *node) processes() map[int]string {
	found := map[int]string{}
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		cmdline, _ := os.ReadFile(filepath.Join(dir, "cmdline"))
		environ, _ := os.ReadFile(filepath.Join(dir, "environ"))
		text := string(cmdline) + "\x00" + string(environ)
		pid, _ := strconv.Atoi(filepath.Base(dir))
		if pid != os.Getpid() && (strings.Contains(text, n.dir+"/") || strings.Contains(text, "/run/brig-"+n.name+"/")) {
			found[pid] = strings.ReplaceAll(string(cmdline), "\x00", " ")
		}
	}
	return found
}

// mounts are below the node's directories, the youngest first.
func (n *node) mounts() (paths []string) {
	data, _ := os.ReadFile("/proc/self/mountinfo")
	for line := range strings.Lines(string(data)) {
		path := strings.Fields(line)[4]
		if strings.HasPrefix(path, n.dir+"/") || strings.HasPrefix(path, "/run/brig-"+n.name+"/") {
			paths = append([]string{path}, paths...)
		}
	}
	return paths
}

// cgroups are the pods' below the node's, in every hierarchy, the deepest first.
func (n *node) cgroups() (paths []string) {
	for _, pattern := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/*"} {
		for _, below := range []string{"/*/*", "/*"} {
			found, _ := filepath.Glob(pattern + n.cgroupParent() + below)
			for _, path := range found {
				if info, err := os.Stat(path); err == nil && info.IsDir() {
					paths = append(paths, path)
				}
			}
		}
	}
	return paths
}

// clear takes away whatever is left of the node, by force.
func (n *node) clear() error {
	for range 3 { // a shim may start a process meanwhile
		for pid := range n.processes() {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		time.Sleep(20 * time.Millisecond)
	}
	for _, path := range n.mounts() {
		_ = syscall.Unmount(path, syscall.MNT_DETACH)
	}
	n.clearCgroups()
	cfg, err := config.Load(filepath.Join(n.dir, "config.toml"))
	if err != nil {
		return err
	}
	err = netns.Do(n.netns, func() error { return transit.Remove(context.Background(), &cfg) })
	return errors.Join(err, os.RemoveAll(cfg.RunDir))
}

// clearCgroups tries for a while: what was killed leaves them in its own time.
func (n *node) clearCgroups() {
	for range 20 {
		own, _ := filepath.Glob("/sys/fs/cgroup/*" + n.cgroupParent())
		own = append(own, "/sys/fs/cgroup"+n.cgroupParent())
		busy := false
		for _, path := range append(n.cgroups(), own...) {
			busy = errors.Is(syscall.Rmdir(path), syscall.EBUSY) || busy
		}
		if !busy {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// sharedNode is a node in a namespace that has nothing but loopback.
type sharedNode struct {
	*node
	name string
}

func (s *sharedNode) start() (err error) {
	s.name = fmt.Sprintf("cri-%06x", rand.Uint32()&0xffffff)
	if err := netns.Create(s.name); err != nil {
		return err
	}
	if out, err := exec.Command("ip", "-n", s.name, "link", "set", "lo", "up").CombinedOutput(); err != nil {
		return fmt.Errorf("raise loopback: %w: %s", err, out)
	}
	s.node, err = newNode(netns.Path(s.name))
	return err
}

func (s *sharedNode) close() error {
	if s.name == "" {
		return nil
	}
	return errors.Join(s.stop(), netns.Delete(s.name))
}

// cniCache is where containerd's CNI library keeps results, whatever it is told. It
// never removes the folders, the inner one first.
var cniCache = []string{"/var/lib/cni/results", "/var/lib/cni"}

var hadCNICache = func() (had []bool) {
	for _, path := range cniCache {
		_, err := os.Stat(path)
		had = append(had, err == nil)
	}
	return had
}()

// removeCNICache removes the folders that were not there when the suite began, if
// nobody else uses them by now.
func removeCNICache() error {
	for i, path := range cniCache {
		if !hadCNICache[i] {
			if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
				return err
			}
		}
	}
	return nil
}
