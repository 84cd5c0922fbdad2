// Package node runs throwaway nodes for tests: the real brigd with a containerd
// of its own, from the repository's bin folder, under a temporary directory. It
// builds nothing (`make build deps` does) and fakes nothing.
//
// A Node is started, stopped in order, killed and started again by its methods.
// Stop reports what a node that ended in order left behind, and only then clears
// it away, so that one leak does not fail every later test. Methods may be called
// from several goroutines, but for those that start or end the node.
package node

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"brig/internal/config"
	"brig/internal/failpoint"
	"brig/tests/image/oci"
)

// EnvPool, if set, is how many sandboxes wait on every node that says nothing of a pool: so
// a suite can be run with sandboxes out of one.
const EnvPool = "BRIG_TEST_POOL"

// Options of a node.
type Options struct {
	// Netns is the path of a network namespace to run in; empty: the machine's.
	Netns string
	// Overrides is TOML merged over the configuration that brigd makes.
	Overrides string
	// Failpoints has a brigd that dies where it is told to; `make failpoints` builds it.
	Failpoints bool
	// Prepare is called before the first start of a node that Launch makes; nil: nothing.
	// Mounts that it makes in the node's folder are taken away with the node.
	Prepare func(*Node) error
}

// Node is a brigd with its containerd.
type Node struct {
	// Dir is where the node keeps everything.
	Dir string
	// Bin is the repository's bin folder.
	Bin string
	// Client speaks the Connect protocol to the node's socket.
	Client

	options Options
	brigd   *exec.Cmd
	ended   chan struct{} // closed once brigd has been waited for
	endErr  error
}

// programs that a node consists of.
var programs = []string{
	"brigd", "brig", "brig-cni", "guest/brig-idle", "guest/brig-files", "brig-probe", "containerd-shim-brig-v1",
	"deps/containerd", "deps/ctr", "deps/runsc", "deps/gvisor-bin/gvisor_sentry",
}

// New prepares a node that is not started yet.
func New(o Options) (*Node, error) {
	root, err := oci.Root()
	if err != nil {
		return nil, err
	}
	bin := filepath.Join(root, "bin")
	if o.Failpoints {
		bin = filepath.Join(bin, "failpoints")
	}
	for _, p := range programs {
		if _, err := os.Stat(filepath.Join(bin, p)); err != nil {
			return nil, fmt.Errorf("run `make build failpoints deps` first: %w", err)
		}
	}
	// Short: the paths of the sockets below it are bounded.
	dir, err := os.MkdirTemp("/tmp", "brig-")
	if err != nil {
		return nil, err
	}
	// Like any node's, its socket can be reached by those whom its mode admits.
	if err := os.Chmod(dir, 0o755); err != nil {
		return nil, err
	}
	if size := os.Getenv(EnvPool); size != "" && !strings.Contains(o.Overrides, "[pool]") {
		o.Overrides += fmt.Sprintf("\n[pool]\nsize = %s\nmax = %s\n", size, size)
	}
	if o.Overrides != "" {
		if err := os.WriteFile(filepath.Join(dir, "overrides.toml"), []byte(o.Overrides), 0o644); err != nil {
			return nil, err
		}
	}
	n := &Node{Dir: dir, Bin: bin, options: o}
	n.Client = newClient(n.Socket())
	return n, nil
}

// Launch starts a node that is stopped when t ends; what it leaves behind fails t.
func Launch(t testing.TB, o Options) *Node {
	t.Helper()
	n, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("brigd's last words:\n%s", n.Log(40))
		}
		if err := n.Stop(); err != nil {
			t.Error(err)
		}
	})
	if o.Prepare != nil {
		if err := o.Prepare(n); err != nil {
			t.Fatal(err)
		}
	}
	if err := n.Start(); err != nil {
		t.Fatal(err)
	}
	return n
}

// Socket is where the node's brigd serves.
func (n *Node) Socket() string { return filepath.Join(n.Dir, "brig.sock") }

// Containerd is where the node's containerd serves.
func (n *Node) Containerd() string { return filepath.Join(n.Dir, "containerd.sock") }

// Config is the configuration that brigd wrote for the node.
func (n *Node) Config() (config.Config, error) {
	return config.Load(filepath.Join(n.Dir, "config.toml"))
}

// Start runs brigd until it is ready.
func (n *Node) Start() error {
	log, err := os.OpenFile(n.logPath(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	n.brigd = n.Command(context.Background(), filepath.Join(n.Bin, "brigd"), "--standalone", n.Dir)
	n.brigd.Stderr = log
	// containerd unpacks checkpoints there and leaves them.
	n.brigd.Env = append(os.Environ(), "XDG_RUNTIME_DIR="+n.Dir, failpoint.EnvDir+"="+n.Dir)
	stdout, err := n.brigd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := n.brigd.Start(); err != nil {
		return fmt.Errorf("start brigd: %w", err)
	}
	ready := make(chan struct{})
	n.ended = make(chan struct{})
	go n.follow(n.brigd, stdout, ready, n.ended)
	select {
	case <-ready:
		return nil
	case <-n.ended:
		return fmt.Errorf("brigd ended before it was ready (%w):\n%s", n.endErr, n.Log(40))
	case <-time.After(time.Minute):
		return fmt.Errorf("brigd was not ready within a minute:\n%s", n.Log(40))
	}
}

func (n *Node) follow(cmd *exec.Cmd, stdout io.Reader, ready, ended chan struct{}) {
	for lines := bufio.NewScanner(stdout); lines.Scan(); {
		if strings.HasPrefix(lines.Text(), "brigd: ready on ") {
			close(ready)
			break
		}
	}
	_, _ = io.Copy(io.Discard, stdout)
	n.endErr = cmd.Wait()
	close(ended)
}

// Command is a command that runs in the node's network namespace.
func (n *Node) Command(ctx context.Context, args ...string) *exec.Cmd {
	if n.options.Netns != "" {
		args = append([]string{"nsenter", "--net=" + n.options.Netns, "--"}, args...)
	}
	return exec.CommandContext(ctx, args[0], args[1:]...)
}

// PID of brigd.
func (n *Node) PID() int { return n.brigd.Process.Pid }

// Kill ends brigd by SIGKILL and waits for its end; its sandboxes and its
// containerd go on.
func (n *Node) Kill() error { return n.signal(syscall.SIGKILL, 10*time.Second) }

// Terminate ends brigd by SIGTERM, in order, and waits for its end.
func (n *Node) Terminate() error { return n.signal(syscall.SIGTERM, time.Minute) }

func (n *Node) signal(sig syscall.Signal, patience time.Duration) error {
	if err := n.brigd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-n.ended:
		return nil
	case <-time.After(patience):
		return fmt.Errorf("brigd did not end within %v of %v", patience, sig)
	}
}

// running tells whether brigd was started and has not ended.
func (n *Node) running() bool {
	if n.ended == nil {
		return false
	}
	select {
	case <-n.ended:
		return false
	default:
		return true
	}
}

func (n *Node) logPath() string { return filepath.Join(n.Dir, "brigd.log") }

// Log returns the last lines that brigd wrote to stderr.
func (n *Node) Log(lines int) string {
	data, err := os.ReadFile(n.logPath())
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimRight(string(data), "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
