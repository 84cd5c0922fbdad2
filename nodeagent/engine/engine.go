// Package engine is brigd's side of containerd, and the only package that imports
// its client. It turns a Sandbox, a plain value, into a container with a snapshot
// and a task, and takes every trace of it away again; it runs programs in it and
// keeps images. It decides nothing: who may, when and why is its callers' business.
//
// Everything it makes in containerd has the sandbox's id for a name, so Remove needs
// no more than the id, may be called at any time, in any half-made state, and again.
//
// An Engine is safe for concurrent use. The connection is made on demand and again
// after containerd was restarted.
package engine

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/log"
	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"brig/internal/config"
)

// snapshotter is the only one that brig uses.
const snapshotter = "overlayfs"

// reconnect is how soon a containerd that came back is found again.
const reconnect = time.Second

// Engine talks to one containerd, in one namespace.
type Engine struct {
	client    *containerd.Client
	namespace string
	cgroup    string

	mu        sync.Mutex                // guards what follows
	processes map[string]*specs.Process // of sandboxes that ran an exec; never changed
	images    map[digest.Digest]known
}

// Connect prepares to talk to the containerd of cfg; that one need not run yet.
func Connect(cfg *config.Config) (*Engine, error) {
	// The client logs what it also returns.
	if err := log.SetLevel("panic"); err != nil {
		return nil, fmt.Errorf("silence the client of containerd: %w", err)
	}
	client, err := containerd.New(cfg.Containerd.Address, containerd.WithTimeout(reconnect))
	if err != nil {
		return nil, fmt.Errorf("prepare to talk to containerd: %w", err)
	}
	if err := tempMounts(filepath.Join(cfg.RunDir, "tmp")); err != nil {
		return nil, err
	}
	return &Engine{
		client:    client,
		namespace: cfg.Containerd.Namespace,
		cgroup:    cfg.CgroupParent(),
		processes: map[string]*specs.Process{},
		images:    map[digest.Digest]known{},
	}, nil
}

// Close ends the connection.
func (e *Engine) Close() error { return e.client.Close() }

// Ready tells whether containerd answers.
func (e *Engine) Ready(ctx context.Context) error {
	ok, err := e.client.IsServing(ctx)
	if err != nil {
		return fmt.Errorf("is containerd there: %w", native(err))
	}
	if !ok {
		return fmt.Errorf("containerd is not ready yet")
	}
	return nil
}

func (e *Engine) in(ctx context.Context) context.Context {
	return namespaces.WithNamespace(ctx, e.namespace)
}

// tempMounts has the client mount root filesystems, to look up users in, where they
// are found again, and unmounts those that a killed brigd left.
func tempMounts(dir string) error {
	if err := mount.SetTempMountLocation(dir); err != nil {
		return fmt.Errorf("make the folder of temporary mounts: %w", err)
	}
	if _, err := mount.CleanupTempMounts(0); err != nil {
		return fmt.Errorf("unmount what an earlier brigd left: %w", err)
	}
	return nil
}
