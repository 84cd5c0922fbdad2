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

// imageName of the image that every variant runs, busybox alone, and of the one that
// checkpoints are measured with.
const (
	imageName  = "localhost/brig/bench:1"
	pythonName = "localhost/brig/bench-python:1"
)

// benchNamespace of containerd is the peers' and the plain shim's; brigd's own is
// left to brigd.
const benchNamespace = "bench"

// agentNamespace is brigd's own.
const agentNamespace = "brig"

// nodeSpec says what is special about a throwaway node.
type nodeSpec struct {
	name      string   // of its folder
	overrides string   // of its configuration, as TOML
	env       []string // that brigd and its containerd get, too
}

// testNode is a throwaway node with the image in it.
type testNode struct {
	spec       nodeSpec
	bin        string
	dir        string
	archives   string // folder of images, which all nodes of a run share
	peer       string // path of gVisor's shim; empty: without it
	brigd      *exec.Cmd
	containerd *client.Client
	image      client.Image
	sandboxes  brigv1connect.SandboxesClient
	exec       brigv1connect.ExecClient
	node       brigv1connect.NodeClient
}

// startNode starts bin/brigd --standalone and imports the image twice: into
// brigd's namespace and into the peers'. close must be called even on an error.
func startNode(ctx context.Context, o options, spec nodeSpec) (*testNode, error) {
	n := &testNode{spec: spec, bin: o.bin, dir: filepath.Join(o.dir, spec.name), archives: o.dir, peer: o.peer}
	if err := os.Mkdir(n.dir, 0o755); err != nil {
		return n, err
	}
	if err := os.WriteFile(filepath.Join(n.dir, "overrides.toml"), []byte(spec.overrides), 0o600); err != nil {
		return n, err
	}
	if err := n.startBrigd(ctx); err != nil {
		return n, err
	}
	api := agent.New(filepath.Join(n.dir, "brig.sock"))
	n.sandboxes, n.exec, n.node = api.Sandboxes, api.Exec, api.Node

	var err error
	if n.containerd, err = client.New(filepath.Join(n.dir, "containerd.sock")); err != nil {
		return n, fmt.Errorf("connect to containerd: %w", err)
	}
	n.image, err = n.provide(ctx, imageName, benchNamespace, agentNamespace)
	return n, err
}

// provide an image in namespaces of containerd, of which the last one's is returned. It
// is built once in a run.
func (n *testNode) provide(ctx context.Context, ref string, spaces ...string) (image client.Image, err error) {
	archive := filepath.Join(n.archives, filepath.Base(ref)+".tar")
	if _, err := os.Stat(archive); errors.Is(err, os.ErrNotExist) {
		args := []string{"run", "brig/tests/image", "-o", archive, "-ref", ref}
		if ref == pythonName {
			args = append(args, "-python")
		}
		if out, err := exec.CommandContext(ctx, "go", args...).CombinedOutput(); err != nil {
			return nil, fmt.Errorf("build the image: %w\n%s", err, out)
		}
	}
	for _, namespace := range spaces {
		if image, err = n.importImage(namespaces.WithNamespace(ctx, namespace), ref, archive); err != nil {
			return nil, err
		}
	}
	return image, nil
}

func (n *testNode) startBrigd(ctx context.Context) error {
	n.brigd = exec.CommandContext(ctx, filepath.Join(n.bin, "brigd"), "--standalone", n.dir)
	n.brigd.Cancel = func() error { return n.brigd.Process.Signal(syscall.SIGTERM) }
	n.brigd.WaitDelay = time.Minute
	// The peer's shim is looked up in the PATH of containerd, which inherits ours.
	n.brigd.Env = append(os.Environ(), "PATH="+filepath.Join(n.bin, "deps")+":"+os.Getenv("PATH"))
	n.brigd.Env = append(n.brigd.Env, n.spec.env...)
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

func (n *testNode) importImage(ctx context.Context, ref, archive string) (client.Image, error) {
	f, err := os.Open(archive)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if _, err := n.containerd.Import(ctx, f); err != nil {
		return nil, fmt.Errorf("import the image: %w", err)
	}
	image, err := n.containerd.GetImage(ctx, ref)
	if err != nil {
		return nil, err
	}
	if err := image.Unpack(ctx, "overlayfs"); err != nil {
		return nil, fmt.Errorf("unpack the image: %w", err)
	}
	return image, nil
}

// close ends the node in order, which removes everything but its folder.
func (n *testNode) close() error {
	errs := []error{unmount(n.rawDir())}
	if n.containerd != nil {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		ctx = namespaces.WithNamespace(ctx, benchNamespace)
		errs = append(errs, removeImage(ctx, n.containerd, imageName), removeImage(ctx, n.containerd, pythonName), n.containerd.Close())
	}
	if n.brigd != nil && n.brigd.Process != nil {
		errs = append(errs, n.brigd.Process.Signal(syscall.SIGTERM), n.brigd.Wait())
	}
	// The peer's runsc keeps a network namespace for gofers, mounted in its folder.
	return errors.Join(append(errs, unmount(n.peerRoot()))...)
}

// unmount everything in a folder, if there is one.
func unmount(dir string) error {
	if err := mount.UnmountRecursive(dir, 0); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

func (n *testNode) peerRoot() string { return filepath.Join(n.dir, "gvisor") }
func (n *testNode) rawDir() string   { return filepath.Join(n.dir, "raw") }

func removeImage(ctx context.Context, c *client.Client, ref string) error {
	err := c.ImageService().Delete(ctx, ref)
	if err != nil && !strings.Contains(err.Error(), "not found") {
		return err
	}
	return nil
}
