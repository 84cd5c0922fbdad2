package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/containerd/v2/pkg/oci"

	"brig/internal/sandbox"
)

// rawSource is runsc as its command line has it, without a containerd or a shim: the same
// image, mounted, and the same spec. Its program ends after the first output, so that
// nothing need be removed.
func (n *testNode) rawSource(ctx context.Context) ([]source, error) {
	bundle, err := n.rawBundle(ctx)
	if err != nil {
		return nil, fmt.Errorf("a bundle for runsc: %w", err)
	}
	root := filepath.Join(n.rawDir(), "root")
	return []source{{name: raw, make: func(ctx context.Context) (time.Duration, func() error, error) {
		cmd := exec.CommandContext(ctx, filepath.Join(n.bin, "deps", "runsc"), "--root", root, "run", "--bundle", bundle, string(sandbox.NewID()))
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		first := newFirstWrite()
		cmd.Stdout = first
		began := time.Now()
		if err := cmd.Run(); err != nil {
			return 0, nothing, fmt.Errorf("runsc run: %w: %s", err, &stderr)
		}
		took, err := first.since(ctx, began)
		return took, nothing, err
	}}}, nil
}

// rawBundle is a bundle with the image's root filesystem, made by containerd; the
// container of which it is stays until the node is closed.
func (n *testNode) rawBundle(ctx context.Context) (string, error) {
	bundle := filepath.Join(n.rawDir(), "bundle")
	if _, err := os.Stat(bundle); err == nil {
		return bundle, nil
	}
	ctx = namespaces.WithNamespace(ctx, benchNamespace)
	id := string(sandbox.NewID())
	container, err := n.containerd.NewContainer(ctx, id, client.WithImage(n.image), client.WithNewSnapshot(id, n.image),
		client.WithNewSpec(oci.WithImageConfig(n.image), oci.WithProcessArgs("/bin/sh", "-c", "echo hi")))
	if err != nil {
		return "", err
	}
	spec, err := container.Spec(ctx)
	if err != nil {
		return "", err
	}
	rootfs := filepath.Join(bundle, "rootfs")
	spec.Root.Path = rootfs
	data, err := json.Marshal(spec)
	if err != nil {
		return "", err
	}
	if err := errors.Join(os.MkdirAll(rootfs, 0o755), os.WriteFile(filepath.Join(bundle, "config.json"), data, 0o600)); err != nil {
		return "", err
	}
	mounts, err := n.containerd.SnapshotService("overlayfs").Mounts(ctx, id)
	if err != nil {
		return "", err
	}
	return bundle, mount.All(mounts, rootfs)
}
