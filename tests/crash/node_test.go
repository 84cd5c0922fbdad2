package crash

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"text/template"
	"time"

	"brig/internal/config"
	"brig/tests/image/oci"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/namespaces"
)

// patience bounds every call: what takes longer hangs.
const patience = 20 * time.Second

// node is a containerd with brig's shim, under a directory of its own.
type node struct {
	dir, bin string
	name     string // brig's name of the node; its containerd namespace is brig-NAME
	image    client.Image
	events   *recorder
	ids      sync.Map // of all containers and pods; the namespace of those in another than the node's

	client     *client.Client
	containerd *exec.Cmd
	ended      chan struct{} // closed once containerd has been waited for
}

const imageName = "brig.test/busybox:1"

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
	"containerd.toml": `
version = 3
root = "{{.Dir}}/persist"
state = "{{.Dir}}/state"
temp = "{{.Dir}}/tmp"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime",
  "io.containerd.podsandbox.controller.v1.podsandbox", "io.containerd.image-verifier.v1.bindir"]
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
`,
}

// newNode starts a node. stop must be called even on an error.
func newNode() (*node, error) {
	root, err := oci.Root()
	if err != nil {
		return nil, err
	}
	// Short: the paths of the sockets below it are bounded.
	dir, err := os.MkdirTemp("/tmp", "brig-")
	if err != nil {
		return nil, err
	}
	n := &node{dir: dir, bin: filepath.Join(root, "bin"), name: fmt.Sprintf("x%06x", rand.Uint32()&0xffffff)}
	n.events = newRecorder(n)
	return n, errors.Join(n.write(), n.start(), n.importImage())
}

func (n *node) write() error {
	for name, text := range files {
		f, err := os.Create(filepath.Join(n.dir, name))
		if err != nil {
			return err
		}
		err = template.Must(template.New(name).Parse(text)).Execute(f, map[string]string{"Name": n.name, "Dir": n.dir, "Bin": n.bin})
		if err := errors.Join(err, f.Close()); err != nil {
			return err
		}
	}
	return nil
}

// start runs containerd until it serves.
func (n *node) start() error {
	log, err := os.OpenFile(n.logPath(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	n.containerd = exec.Command(filepath.Join(n.bin, "deps", "containerd"), "--config", filepath.Join(n.dir, "containerd.toml"), "--log-level", "debug")
	n.containerd.Env = append(os.Environ(),
		"PATH="+n.bin+":"+filepath.Join(n.bin, "deps")+":"+os.Getenv("PATH"), config.EnvPath+"="+n.configPath())
	n.containerd.Stdout, n.containerd.Stderr = log, log
	if err := n.containerd.Start(); err != nil {
		return err
	}
	ended := make(chan struct{})
	n.ended = ended
	go func(cmd *exec.Cmd) { _ = cmd.Wait(); close(ended) }(n.containerd)
	return n.ready()
}

// ready connects, if this is the first containerd, and waits until it serves.
func (n *node) ready() (err error) {
	address := filepath.Join(n.dir, "containerd.sock")
	if n.client == nil {
		if n.client, err = client.New(address, client.WithTimeout(patience), client.WithDefaultNamespace(n.namespace())); err != nil {
			return fmt.Errorf("%w\n%s", err, n.log(20))
		}
	} else if err := n.client.Reconnect(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for {
		serving, err := n.client.IsServing(ctx)
		if err == nil && serving {
			n.events.follow(n.client)
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("containerd does not serve: %w\n%s", err, n.log(20))
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func (n *node) importImage() error {
	img, err := oci.Recipe{}.Image(context.Background())
	if err != nil {
		return err
	}
	archive := filepath.Join(n.dir, "image.tar")
	if err := oci.WriteArchive(archive, imageName, img); err != nil {
		return err
	}
	f, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer f.Close()
	ctx, cancel := n.context(context.Background())
	defer cancel()
	if _, err := n.client.Import(ctx, f); err != nil {
		return err
	}
	if n.image, err = n.client.GetImage(ctx, imageName); err != nil {
		return err
	}
	return n.image.Unpack(ctx, "overlayfs")
}

func (n *node) namespace() string { return "brig-" + n.name }

func (n *node) configPath() string { return filepath.Join(n.dir, "config.toml") }

func (n *node) runDir() string { return "/run/brig-" + n.name }

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

// context of one call.
func (n *node) context(parent context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(parent, patience)
	return namespaces.WithNamespace(ctx, n.namespace()), cancel
}

// call is the context of one call, for tests.
func (n *node) call(t testing.TB) context.Context {
	ctx, cancel := n.context(context.Background()) // not t's: cleanups call, too
	t.Cleanup(cancel)
	return ctx
}

// end ends containerd; its sandboxes go on.
func (n *node) end(sig syscall.Signal) error {
	if n.ended == nil {
		return nil
	}
	err := n.containerd.Process.Signal(sig)
	select {
	case <-n.ended:
		n.ended = nil
		return err
	case <-time.After(patience):
		return errors.Join(err, fmt.Errorf("containerd did not end within %v of %v", patience, sig))
	}
}

// stop ends the node, which has no containers any more. What is left is an error, and
// is cleared away.
func (n *node) stop() error {
	err := n.settle("")
	err = errors.Join(err, n.end(syscall.SIGTERM), n.clear())
	if n.client != nil {
		err = errors.Join(err, n.client.Close())
	}
	return err
}

// clear takes away whatever is left of the node, by force.
func (n *node) clear() error {
	for range 3 { // a shim may start a process meanwhile
		for pid := range n.processes("") {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		time.Sleep(20 * time.Millisecond)
	}
	for _, path := range n.mounts("") {
		_ = syscall.Unmount(path, syscall.MNT_DETACH)
	}
	for syscall.Unmount(n.runDir()+"/r/null-netns", syscall.MNT_DETACH) == nil { // runsc's first starts may mount it twice
		continue
	}
	for _, path := range append(n.cgroups(""), n.cgroupParents()...) {
		_ = syscall.Rmdir(path)
	}
	return errors.Join(os.RemoveAll(n.runDir()), os.RemoveAll(n.dir))
}
