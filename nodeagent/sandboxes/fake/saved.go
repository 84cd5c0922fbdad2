package fake

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"

	"brig/nodeagent/engine"
)

// Build of gVisor that images of sandboxes are said to be of.
const Build = "fake-1"

// Pause freezes a task.
func (n *Node) Pause(_ context.Context, id string) error { return n.freeze("pause", id, true) }

// Resume thaws it.
func (n *Node) Resume(_ context.Context, id string) error { return n.freeze("resume", id, false) }

func (n *Node) freeze(step, id string, paused bool) error {
	if err := n.step(step, id); err != nil {
		return err
	}
	defer n.mu.Unlock()
	t := n.tasks[id]
	switch {
	case t == nil:
		return errdefs.ErrNotFound
	case !t.started || t.paused == paused:
		return errdefs.ErrFailedPrecondition
	}
	t.paused = paused
	return nil
}

// Paused tells whether a task is frozen.
func (n *Node) Paused(_ context.Context, id string) (bool, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if t := n.tasks[id]; t != nil {
		return t.paused, nil
	}
	return false, errdefs.ErrNotFound
}

// Checkpoint writes an image that is one file, and the shim's manifest.
func (n *Node) Checkpoint(_ context.Context, id, dir string) error {
	if err := n.step("checkpoint", id); err != nil {
		return err
	}
	defer n.mu.Unlock()
	if n.tasks[id] == nil {
		return errdefs.ErrNotFound
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	for name, text := range map[string]string{"pages.img": "memory of " + id, "brig.json": `{"runsc":"` + Build + `"}`} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// RootLayer writes a file.
func (n *Node) RootLayer(_ context.Context, id, path string, _ int64) error {
	if err := n.step("layer", id); err != nil {
		return err
	}
	defer n.mu.Unlock()
	return os.WriteFile(path, []byte("files of "+id), 0o600)
}

// Commit names an image.
func (n *Node) Commit(_ context.Context, id, layer, name string) (engine.Image, error) {
	if err := n.step("commit", id); err != nil {
		return engine.Image{}, err
	}
	defer n.mu.Unlock()
	data, err := os.ReadFile(layer)
	if err != nil {
		return engine.Image{}, err
	}
	if n.images[name] {
		return engine.Image{}, errdefs.ErrAlreadyExists
	}
	n.images[name] = true
	return engine.Image{Name: name, Digest: sum(name), Size: uint64(len(data))}, nil
}

// DropUnfinished has nothing to do.
func (n *Node) DropUnfinished(context.Context) error { return nil }

// Resolve finds an image by the very name.
func (n *Node) Resolve(_ context.Context, name string) (string, string, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.images[name] {
		return "", "", errdefs.ErrNotFound.WithMessage("there is no image " + name)
	}
	return name, sum(name), nil
}

// Origin is the image that a task was made of.
func (n *Node) Origin(_ context.Context, id string) (string, string, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if t := n.tasks[id]; t != nil {
		return t.made.Image, sum(t.made.Image), nil
	}
	return "", "", fmt.Errorf("task %s: %w", id, errdefs.ErrNotFound)
}

// Made is what a task was made of.
func (n *Node) Made(id string) engine.Sandbox {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.tasks[id].made
}

// Images lists them by name.
func (n *Node) Images(context.Context) (list []engine.Image, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(n.images)) {
		list = append(list, engine.Image{Name: name, Digest: sum(name)})
	}
	return list, nil
}

// RemoveImage removes one.
func (n *Node) RemoveImage(_ context.Context, name string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.images, name)
	return nil
}

func sum(name string) string { return digest.FromString(name).String() }
