package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/pkg/namespaces"

	"brig/nodeagent/api/brig/v1/brigv1connect"
	agent "brig/nodeagent/brig/client"
)

// imageName of the image that every variant runs: busybox alone.
const imageName = "localhost/brig/bench:1"

// benchNamespace of containerd is the peers' and the plain shim's; brigd's own is
// left to brigd.
const benchNamespace = "bench"

// agentNamespace is brigd's own.
const agentNamespace = "brig"

// testNode is a throwaway node with the image in it.
type testNode struct {
	bin        string
	dir        string
	peer       string // path of gVisor's shim; empty: without it
	brigd      *exec.Cmd
	containerd *client.Client
	image      client.Image
	sandboxes  brigv1connect.SandboxesClient
	exec       brigv1connect.ExecClient
}

// startNode starts bin/brigd --standalone and imports the image twice: into
// brigd's namespace and into the peers'. close must be called even on an error.
func startNode(ctx context.Context, o options) (*testNode, error) {
	n := &testNode{bin: o.bin, dir: o.dir, peer: o.peer}
	if err := n.startBrigd(ctx); err != nil {
		return n, err
	}
	api := agent.New(filepath.Join(n.dir, "brig.sock"))
	n.sandboxes, n.exec = api.Sandboxes, api.Exec

	var err error
	if n.containerd, err = client.New(filepath.Join(n.dir, "containerd.sock")); err != nil {
		return n, fmt.Errorf("connect to containerd: %w", err)
	}
	archive := filepath.Join(n.dir, "image.tar")
	build := exec.CommandContext(ctx, "go", "run", "brig/tests/image", "-o", archive, "-ref", imageName)
	if out, err := build.CombinedOutput(); err != nil {
		return n, fmt.Errorf("build the image: %w\n%s", err, out)
	}
	for _, namespace := range []string{agentNamespace, benchNamespace} {
		if err := n.importImage(namespaces.WithNamespace(ctx, namespace), archive); err != nil {
			return n, err
		}
	}
	return n, nil
}

func (n *testNode) startBrigd(ctx context.Context) error {
	n.brigd = exec.CommandContext(ctx, filepath.Join(n.bin, "brigd"), "--standalone", n.dir)
	n.brigd.Cancel = func() error { return n.brigd.Process.Signal(syscall.SIGTERM) }
	n.brigd.WaitDelay = time.Minute
	// The peer's shim is looked up in the PATH of containerd, which inherits ours.
	n.brigd.Env = append(os.Environ(), "PATH="+filepath.Join(n.bin, "deps")+":"+os.Getenv("PATH"))
	log, err := os.Create(filepath.Join(n.dir, "brigd.log"))
	if err != nil {
		return err
	}
	defer log.Close()
	n.brigd.Stderr = log
	stdout, err := n.brigd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := n.brigd.Start(); err != nil {
		return fmt.Errorf("start brigd: %w", err)
	}
	lines := bufio.NewScanner(stdout)
	for lines.Scan() {
		if strings.HasPrefix(lines.Text(), "brigd: ready") {
			return nil
		}
	}
	tail, _ := os.ReadFile(log.Name())
	return fmt.Errorf("brigd ended before it was ready:\n%s", tail)
}

func (n *testNode) importImage(ctx context.Context, archive string) error {
	f, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := n.containerd.Import(ctx, f); err != nil {
		return fmt.Errorf("import the image: %w", err)
	}
	image, err := n.containerd.GetImage(ctx, imageName)
	if err != nil {
		return err
	}
	if err := image.Unpack(ctx, "overlayfs"); err != nil {
		return fmt.Errorf("unpack the image: %w", err)
	}
	n.image = image
	return nil
}

// close ends the node in order, which removes everything but its folder.
func (n *testNode) close() error {
	var errs []error
	if n.containerd != nil {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		errs = append(errs, removeImage(namespaces.WithNamespace(ctx, benchNamespace), n.containerd), n.containerd.Close())
	}
	if n.brigd != nil && n.brigd.Process != nil {
		errs = append(errs, n.brigd.Process.Signal(syscall.SIGTERM), n.brigd.Wait())
	}
	// The peer's runsc keeps a network namespace for gofers, mounted in its folder.
	if err := mount.UnmountRecursive(n.peerRoot(), 0); !errors.Is(err, os.ErrNotExist) {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (n *testNode) peerRoot() string { return filepath.Join(n.dir, "gvisor") }

func removeImage(ctx context.Context, c *client.Client) error {
	err := c.ImageService().Delete(ctx, imageName)
	if err != nil && !strings.Contains(err.Error(), "not found") {
		return err
	}
	return nil
}
