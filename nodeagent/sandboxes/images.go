package sandboxes

import (
	"context"
	"fmt"

	"github.com/containerd/errdefs"

	"brig/nodeagent/record"
)

// imageOf is the image that uid means by name: its own snapshot of that name if there is
// one, else what everybody means. Another's snapshot is not there.
func (m *Manager) imageOf(ctx context.Context, uid uint32, name string) (string, error) {
	if record.IsSnapshot(name) {
		if !record.MaySee(uid, name) {
			return "", noImage(name)
		}
		full, _, err := m.runtime.Resolve(ctx, name)
		return full, err
	}
	own, err := record.SnapshotName(uid, name)
	if err != nil {
		return name, nil // no snapshot has such a name
	}
	full, _, err := m.runtime.Resolve(ctx, own)
	if errdefs.IsNotFound(err) {
		return name, nil
	}
	return full, err
}

func noImage(name string) error {
	return errdefs.ErrNotFound.WithMessage(fmt.Sprintf("there is no image %s on this node: pull or import it", name))
}

// ensure makes sure that the image of a new sandbox is there, and returns its name.
func (m *Manager) ensure(ctx context.Context, rec *record.Record) (string, error) {
	name, err := m.imageOf(ctx, rec.Owner, rec.Request.Image)
	if err != nil || record.IsSnapshot(name) {
		return name, err
	}
	return name, m.runtime.Ensure(ctx, name)
}

// RemoveImage deletes an image and what only it used: a snapshot for its owner, any for
// root. Sandboxes made from it go on.
func (m *Manager) RemoveImage(ctx context.Context, uid uint32, name string) error {
	full, err := m.imageOf(ctx, uid, name)
	if err != nil {
		return err
	}
	if uid != root && !record.IsSnapshot(full) {
		return errdefs.ErrPermissionDenied.WithMessage("only root may remove images, whose names all users share: ask root")
	}
	if full, _, err = m.runtime.Resolve(ctx, full); err != nil {
		return err
	}
	if err := m.runtime.RemoveImage(ctx, full); err != nil {
		return err
	}
	m.kept.drop(full)
	return nil
}
