package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// patience bounds every command that a test runs.
const patience = 2 * time.Minute

// Result is what a program said and how it ended.
type Result struct {
	Args           []string
	Stdout, Stderr string
	// Code is its exit status, -1 if a signal ended it.
	Code int
}

// String shows the whole result, for failures.
func (r Result) String() string {
	return fmt.Sprintf("%s\nstatus %d\nstdout: %q\nstderr: %q", strings.Join(r.Args, " "), r.Code, r.Stdout, r.Stderr)
}

// Run runs a command to its end.
func Run(t testing.TB, cmd *exec.Cmd) Result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	// A grandchild that keeps the pipes open must not hang the test.
	cmd.WaitDelay = 5 * time.Second
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("%s: %v\nstdout: %q\nstderr: %q", strings.Join(cmd.Args, " "), err, stdout.String(), stderr.String())
	}
	return Result{Args: cmd.Args, Stdout: stdout.String(), Stderr: stderr.String(), Code: cmd.ProcessState.ExitCode()}
}

func (n *Node) context(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// Env is the environment in which `brig` talks to this node and finds itself
// and the programs it comes with.
func (n *Node) Env() []string {
	path := n.Bin + ":" + filepath.Join(n.Bin, "deps") + ":" + os.Getenv("PATH")
	return append(os.Environ(), "BRIG_SOCKET="+n.Socket(), "PATH="+path)
}

// BrigCommand is the command line, not run yet.
func (n *Node) BrigCommand(ctx context.Context, args ...string) *exec.Cmd {
	cmd := n.Command(ctx, append([]string{filepath.Join(n.Bin, "brig")}, args...)...)
	cmd.Env = n.Env()
	return cmd
}

// Try runs the command line, however it ends.
func (n *Node) Try(t testing.TB, args ...string) Result {
	t.Helper()
	return Run(t, n.BrigCommand(n.context(t), args...))
}

// Brig runs the command line, which must succeed, and returns its stdout.
func (n *Node) Brig(t testing.TB, args ...string) string {
	t.Helper()
	r := n.Try(t, args...)
	if r.Code != 0 {
		t.Fatal(r)
	}
	return r.Stdout
}

// Create runs brig create with args and removes the sandbox when t ends. It
// returns the id.
func (n *Node) Create(t testing.TB, args ...string) string {
	t.Helper()
	out := strings.TrimSpace(n.Brig(t, append([]string{"create"}, args...)...))
	id := out[strings.LastIndex(out, "\n")+1:]
	if !strings.HasPrefix(id, "sb-") {
		t.Fatalf("the last line of create is %q, want an id", id)
	}
	t.Cleanup(func() { n.Try(t, "rm", "--force", id) })
	return id
}

// CtrCommand is containerd's ctr in a containerd namespace, not run yet.
func (n *Node) CtrCommand(ctx context.Context, namespace string, args ...string) *exec.Cmd {
	cmd := n.Command(ctx, append([]string{
		filepath.Join(n.Bin, "deps", "ctr"), "--address", n.Containerd(), "--namespace", namespace,
	}, args...)...)
	cmd.Env = n.Env()
	return cmd
}

// Ctr runs containerd's ctr in a containerd namespace, however it ends.
func (n *Node) Ctr(t testing.TB, namespace string, args ...string) Result {
	t.Helper()
	return Run(t, n.CtrCommand(n.context(t), namespace, args...))
}
