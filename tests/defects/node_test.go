package defects

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
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
	"brig/internal/sandbox"
	"brig/tests/image/oci"
	"brig/tests/peer"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/namespaces"
)

// options of a node.
type options struct {
	// flags of runsc that gVisor's shim passes on.
	flags map[string]string
	// humble runs containerd, and with it the shim, without CAP_SYS_RESOURCE, and
	// gVisor's shim as it is.
	humble bool
}

// node is a containerd with the shim under test, under a directory of its own.
type node struct {
	*client.Client
	options

	dir, bin string
	name     string // of its cgroups, its containerd namespace, and brig's node
	runtime  string // a name, or the path of a shim
	image    client.Image
	daemon   *exec.Cmd
	ended    chan struct{} // closed once containerd has been waited for
	made     []string      // ids of tasks
}

// launch starts a node that ends with t, which fails if brig leaves anything.
func launch(t *testing.T, o options) *node {
	t.Helper()
	n, err := newNode(o)
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

// newNode returns a node to be stopped also on an error.
func newNode(o options) (*node, error) {
	n := &node{options: o, name: fmt.Sprintf("d%06x", rand.Uint32()&0xffffff), runtime: sandbox.Runtime}
	root, err := oci.Root()
	if err != nil {
		return n, err
	}
	n.bin = filepath.Join(root, "bin")
	// Short: the paths of the sockets below it are bounded.
	if n.dir, err = os.MkdirTemp("/tmp", "brig-"); err != nil {
		return n, err
	}
	if *gvisor {
		n.runtime = edited
		if o.humble {
			n.runtime = unedited
		}
	}
	return n, errors.Join(n.write(), n.start("ttrpc"), n.importImage())
}

// files of the node, by their names.
var files = map[string]string{
	"brig.toml": `
node = "{{.Name}}"
state_dir = "{{.Dir}}/brig"
run_dir = "{{.Dir}}/run"
[runsc]
path = "{{.Dir}}/runsc"
[sandboxes]
guest = "{{.Bin}}/guest"
`,
	"containerd.toml": `
version = 3
root = "{{.Dir}}/root"
state = "{{.Dir}}/state"
temp = "{{.Dir}}/tmp"
disabled_plugins = [
  "io.containerd.grpc.v1.cri", "io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime", "io.containerd.podsandbox.controller.v1.podsandbox",
  "io.containerd.image-verifier.v1.bindir", "io.containerd.nri.v1.nri", "io.containerd.internal.v1.tracing", "io.containerd.snapshotter.v1.devmapper",
]
[debug]
level = "warn"
[grpc]
address = "{{.Dir}}/containerd.sock"
[plugins."io.containerd.shim.v1.manager"]
socket_dir = "{{.Dir}}/s"
[plugins."io.containerd.internal.v1.opt"]
path = "{{.Dir}}/opt"
`,
	// The runsc of both shims is the real one behind a script that counts and, where
	// a test says so, is slow or fails.
	"runsc": `#!/bin/sh
echo "$*" >>{{.Dir}}/calls
[ ! -e {{.Dir}}/slow ] || sleep 3
[ ! -e {{.Dir}}/broken ] || exit 1
exec {{.Bin}}/deps/runsc "$@"
`,
}

func (n *node) path(name string) string { return filepath.Join(n.dir, name) }

func (n *node) write() error {
	for name, text := range files {
		var b strings.Builder
		values := map[string]string{"Name": n.name, "Dir": n.dir, "Bin": n.bin}
		err := template.Must(template.New(name).Parse(text)).Execute(&b, values)
		if err := errors.Join(err, os.WriteFile(n.path(name), []byte(b.String()), 0o755)); err != nil {
			return err
		}
	}
	c := peer.Config{Runsc: n.path("runsc"), Root: n.path("gvisor"), Flags: n.flags}
	return c.Write(n.path("gvisor.toml"))
}

// start runs containerd until it answers; shims find it at the TTRPC socket of that name.
func (n *node) start(ttrpc string) error {
	text, err := os.ReadFile(n.path("containerd.toml"))
	if err != nil {
		return err
	}
	own := n.path("containerd." + ttrpc + ".toml")
	if err := os.WriteFile(own, fmt.Appendf(text, "[ttrpc]\naddress = %q\n", n.path(ttrpc)), 0o600); err != nil {
		return err
	}
	args := []string{n.bin + "/deps/containerd", "--config", own}
	if n.humble {
		args = append([]string{"setpriv", "--inh-caps=-sys_resource", "--bounding-set=-sys_resource", "--"}, args...)
	}
	log, err := os.OpenFile(n.path("log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	n.daemon = exec.Command(args[0], args[1:]...)
	n.daemon.Stdout, n.daemon.Stderr = log, log
	n.daemon.Env = append(os.Environ(), config.EnvPath+"="+n.path("brig.toml"), "XDG_RUNTIME_DIR="+n.dir,
		"PATH="+n.bin+":"+n.bin+"/deps:"+os.Getenv("PATH"))
	if err := n.daemon.Start(); err != nil {
		return err
	}
	ended := make(chan struct{})
	n.ended = ended
	go func(cmd *exec.Cmd) { _ = cmd.Wait(); close(ended) }(n.daemon)
	return n.connect()
}

// connect waits for containerd.
func (n *node) connect() (err error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if n.Client, err = client.New(n.path("containerd.sock")); err != nil {
		return err
	}
	err = eventually(ctx, func() error {
		_, err := n.Version(ctx)
		return err
	})
	if err != nil {
		err = fmt.Errorf("containerd does not answer: %w", err)
	}
	return err
}

func (n *node) context(ctx context.Context) context.Context {
	return namespaces.WithNamespace(ctx, n.name)
}

const imageName = "brig.test/busybox:1"

func (n *node) importImage() error {
	ctx := n.context(context.Background())
	img, err := oci.Recipe{}.Image(ctx)
	if err != nil {
		return err
	}
	archive := n.path("image.tar")
	if err := oci.WriteArchive(archive, imageName, img); err != nil {
		return err
	}
	f, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := n.Import(ctx, f); err != nil {
		return err
	}
	if n.image, err = n.GetImage(ctx, imageName); err != nil {
		return err
	}
	return n.image.Unpack(ctx, "overlayfs")
}

// kill ends containerd at once; its shims go on.
func (n *node) kill() error { return n.end(syscall.SIGKILL) }

func (n *node) end(sig syscall.Signal) error {
	err := errors.Join(n.Close(), n.daemon.Process.Signal(sig))
	select {
	case <-n.ended:
		n.ended = nil
		return err
	case <-time.After(10 * time.Second):
		return errors.Join(err, fmt.Errorf("containerd does not end on %v", sig))
	}
}

// stop ends the node. What brig leaves is an error; it is cleared away like whatever
// gVisor's shim leaves.
func (n *node) stop() error {
	var errs []error
	if n.ended != nil && !*gvisor {
		errs = append(errs, n.removeAll(), n.end(syscall.SIGTERM), n.left())
	}
	return errors.Join(append(errs, n.clear())...)
}

func (n *node) removeAll() error {
	ctx, cancel := context.WithTimeout(n.context(context.Background()), patience)
	defer cancel()
	containers, err := n.Containers(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, c := range containers {
		errs = append(errs, remove(ctx, c))
	}
	return errors.Join(errs...)
}

// left waits for the node's processes, mounts and cgroups to go and reports those that
// stay.
func (n *node) left() error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return n.isFreed(ctx)
}

// processes are those that name the node's directory in their command line or
// environment.
func (n *node) processes() map[int]string {
	found := map[int]string{}
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		cmdline, _ := os.ReadFile(filepath.Join(dir, "cmdline"))
		environ, _ := os.ReadFile(filepath.Join(dir, "environ"))
		text := string(cmdline) + "\x00" + string(environ)
		pid, _ := strconv.Atoi(filepath.Base(dir))
		if pid != os.Getpid() && strings.Contains(text, n.dir+"/") {
			found[pid] = strings.TrimSpace(strings.ReplaceAll(string(cmdline), "\x00", " "))
		}
	}
	return found
}

// mounts are below the node's directory, the youngest first.
func (n *node) mounts() (paths []string) {
	data, _ := os.ReadFile("/proc/self/mountinfo")
	for line := range strings.Lines(string(data)) {
		if path := strings.Fields(line)[4]; strings.HasPrefix(path, n.dir+"/") {
			paths = append([]string{path}, paths...)
		}
	}
	return paths
}

// cgroup of a container.
func (n *node) cgroup(id string) string { return "/brig-" + n.name + "/" + id }

// cgroups are the containers', in every hierarchy.
func (n *node) cgroups() (paths []string) {
	for _, hierarchy := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/*"} {
		found, _ := filepath.Glob(hierarchy + n.cgroup("*"))
		for _, path := range found {
			if info, err := os.Stat(path); err == nil && info.IsDir() {
				paths = append(paths, path)
			}
		}
	}
	return paths
}

// clear takes away whatever is left of the node, by force.
func (n *node) clear() error {
	if n.dir == "" {
		return nil
	}
	for range 3 { // a shim may start a process meanwhile
		for pid := range n.processes() {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		time.Sleep(20 * time.Millisecond)
	}
	for _, path := range n.mounts() {
		_ = syscall.Unmount(path, syscall.MNT_DETACH)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	errs := []error{eventually(ctx, n.removeCgroups), os.RemoveAll(n.dir)}
	if *gvisor {
		errs = append(errs, n.removePeerFiles())
	}
	return errors.Join(errs...)
}

// removeCgroups may come too early: what was killed leaves them in its own time.
func (n *node) removeCgroups() error {
	paths := n.cgroups()
	for _, hierarchy := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/*"} {
		own, _ := filepath.Glob(hierarchy + "/brig-" + n.name + "*")
		paths = append(paths, own...)
	}
	var errs []error
	for _, path := range paths {
		if err := os.Remove(path); !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// log returns the last lines that containerd and the shims wrote.
func (n *node) log(lines int) string {
	data, err := os.ReadFile(n.path("log"))
	if err != nil {
		return err.Error()
	}
	list := strings.Split(strings.TrimRight(string(data), "\n"), "\n")
	return strings.Join(list[max(0, len(list)-lines):], "\n")
}
