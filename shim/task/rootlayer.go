package task

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"brig/internal/rootlayer"
	"brig/internal/undo"
	"brig/shim/runsc"
	"brig/shim/upper"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// layerTime bounds how long programs stand still for a layer.
const layerTime = 10 * time.Minute

// lateTime is how long the end of the tree may be awaited after the sentry has said that
// it has written all of it.
const lateTime = 5 * time.Second

// RootLayer writes what the sandbox has written to its root into a file, as a layer of an
// image, or leaves no file. Programs stand still meanwhile, and go on as they were.
func (s *Shim) RootLayer(ctx context.Context, id string, r rootlayer.Request) (err error) {
	t, err := s.get(id)
	if err != nil {
		return err
	}
	over, err := t.beginCheckpoint()
	if err != nil {
		return err
	}
	defer over()
	if err := t.rootLayer(ctx, r); err != nil {
		if t.isOver() {
			err = fmt.Errorf("the sandbox has ended: %w: %w", err, errdefs.ErrFailedPrecondition)
		}
		return fmt.Errorf("make a layer of the root: %w", err)
	}
	return nil
}

func (t *Task) rootLayer(ctx context.Context, r rootlayer.Request) (err error) {
	if !strings.HasPrefix(t.runsc.Overlay, "root:self") {
		return fmt.Errorf("what the sandbox writes to its root is kept as %q, not in a file: %w", t.runsc.Overlay, errdefs.ErrFailedPrecondition)
	}
	ctx, cancel := context.WithTimeout(ctx, layerTime)
	defer cancel()
	store, size, err := t.filestore()
	if err != nil {
		return err
	}
	defer store.Close()
	var steps undo.Stack
	defer steps.Undo(ctx, &err)
	out, err := os.OpenFile(r.Path, os.O_WRONLY|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	steps.Push("remove the layer", func(context.Context) error { return os.Remove(r.Path) })
	defer out.Close()
	// Counted by the sentry: one that is paused already stays so.
	if err := t.surely(ctx, (*runsc.Control).Pause); err != nil {
		return err
	}
	defer func() {
		if !t.isOver() {
			err = errors.Join(err, t.surely(ctx, (*runsc.Control).Resume))
		}
	}()
	tree, err := t.tree(ctx, filepath.Dir(r.Path))
	if err != nil {
		return err
	}
	defer tree.Close()
	if err := upper.Write(cancelled{ctx, out}, upper.Source{Tree: tree, Store: store, StoreSize: size}, r.MaxBytes); err != nil {
		return err
	}
	if err := out.Close(); err != nil {
		return err
	}
	steps.Release()
	return nil
}

// filestore opens the file that has the bytes. It lies in the root, where a compromised
// gofer could put something else: what is no plain file is refused, and no link followed.
func (t *Task) filestore() (f *os.File, size int64, err error) {
	root, err := unix.Open(t.request.Bundle.Rootfs(), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, 0, fmt.Errorf("open the root: %w", err)
	}
	defer unix.Close(root)
	fd, err := unix.Openat2(root, filestore+t.sandbox.id(), &unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_XDEV,
	})
	if err != nil {
		return nil, 0, fmt.Errorf("open the filestore: %w", err)
	}
	f = os.NewFile(uintptr(fd), "filestore")
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("the filestore is no plain file: %w", errdefs.ErrInvalidArgument)
	}
	if err != nil {
		return nil, 0, errors.Join(err, f.Close())
	}
	return f, info.Size(), nil
}

// tree has the sentry tell what it has, into a file in dir that has no name. It tells
// through a pipe, so that there is an end to what it can write.
func (t *Task) tree(ctx context.Context, dir string) (*os.File, error) {
	fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("make a file for the tree: %w", err)
	}
	tree := os.NewFile(uintptr(fd), "tree")
	if err := t.tell(ctx, tree); err != nil {
		return nil, errors.Join(err, tree.Close())
	}
	return tree, nil
}

func (t *Task) tell(ctx context.Context, tree *os.File) error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	copied := make(chan error, 1)
	go func() {
		n, err := io.Copy(tree, io.LimitReader(r, upper.MaxTree+1))
		if n > upper.MaxTree {
			err = fmt.Errorf("the tree of files has more than %d bytes: %w", upper.MaxTree, errdefs.ErrResourceExhausted)
		}
		r.Close() // a sentry that goes on is told
		copied <- err
	}()
	err = t.sandbox.control.SaveTree(ctx, w)
	w.Close()
	if err == nil {
		_ = r.SetReadDeadline(time.Now().Add(lateTime)) // an error: it was read to its end
	} else {
		r.Close()
	}
	if errCopy := <-copied; errCopy != nil {
		err = errors.Join(errCopy, err)
	}
	if err == nil {
		_, err = tree.Seek(0, io.SeekStart)
	}
	return err
}

// cancelled writes until ctx ends.
type cancelled struct {
	ctx context.Context
	w   io.Writer
}

func (c cancelled) Write(p []byte) (int, error) {
	if c.ctx.Err() != nil {
		return 0, context.Cause(c.ctx)
	}
	return c.w.Write(p)
}
