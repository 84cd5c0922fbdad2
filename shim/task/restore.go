package task

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"brig/shim/checkpoint"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// planRestore settles, before anything is made, whether the image can be restored.
// The program is the image's, whatever the spec says; all else that runsc can compare
// (user, capabilities, mounts, …) must be the same and is compared at the start.
func (t *Task) planRestore(ctx context.Context, normal *specs.Spec) error {
	if t.request.Checkpoint == "" {
		return nil
	}
	if servedByDriver(normal) {
		return fmt.Errorf("restore the sandbox: %w", errGPUMemory)
	}
	image, err := checkpoint.Open(t.request.Checkpoint)
	if err != nil {
		return err
	}
	build, err := t.runsc.Version(ctx)
	if err != nil {
		return err
	}
	if err := image.Restorable(build, t.runsc.DriverCapabilities); err != nil {
		return err
	}
	normal.Process.Args, t.named = image.Args, image.Slot && !image.Unnamed
	return nil
}

// goOn has a sandbox go on from its checkpoint: from the image, or where it is held.
func (t *Task) goOn(ctx context.Context) error {
	if t.sandbox.held != nil {
		return t.sandbox.held.goOn(ctx)
	}
	return t.restore(ctx)
}

// restore has runsc do it. Nothing runs before all of the sandbox's containers are
// restored. One that joins gets its streams now.
func (t *Task) restore(ctx context.Context) error {
	root := t.sandbox.root
	t.sandbox.starter.Release()
	err := root.runsc.Restore(ctx, root.id, root.request.Bundle.Dir(), t.request.Checkpoint, nil)
	if err != nil || t.isRoot() {
		return err
	}
	if err := root.init.move(Running); err != nil {
		return err
	}
	files := t.init.stdio().Files()
	return t.runsc.Restore(ctx, t.id, t.request.Bundle.Dir(), t.request.Checkpoint, &files)
}

// filestore is how runsc names the file that keeps a sandbox's writes to its root.
const filestore = ".gvisor.filestore."

// removeFilestores takes away what a snapshot of a live sandbox's root has of runsc's:
// it is nobody's any more, and runsc refuses a root that has one of its own name.
func removeFilestores(rootfs string) error {
	root, err := os.OpenRoot(rootfs)
	if err != nil {
		return err
	}
	defer root.Close()
	dir, err := root.Open(".")
	if err != nil {
		return err
	}
	defer dir.Close()
	for {
		names, err := dir.Readdirnames(1024) // of an image, which may have millions
		if errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		for _, name := range names {
			if !strings.HasPrefix(name, filestore) {
				continue
			}
			if err := root.Remove(name); err != nil {
				return fmt.Errorf("remove what another sandbox left in the root: %w", err)
			}
		}
	}
}
