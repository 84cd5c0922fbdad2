package sandboxes

import (
	"context"

	"brig/nodeagent/engine"
)

// Saver stops what runs, and keeps it.
type Saver interface {
	// Pause and Resume are an ErrFailedPrecondition where there is nothing to do.
	Pause(ctx context.Context, id string) error
	Resume(ctx context.Context, id string) error
	Paused(ctx context.Context, id string) (bool, error)
	// Checkpoint writes the sandbox, which goes on as it was, into a folder that is not there.
	Checkpoint(ctx context.Context, id, dir string) error
	// RootLayer writes what the sandbox has written to its root into a file.
	RootLayer(ctx context.Context, id, path string, maxBytes int64) error
}

// Images are what sandboxes are made from.
type Images interface {
	// Ensure makes sure that the image is there, pulling it if it is not.
	Ensure(ctx context.Context, image string) error
	// Resolve is the full name and the digest of one that is there.
	Resolve(ctx context.Context, image string) (name, digest string, err error)
	// Origin is the image that a sandbox was made from.
	Origin(ctx context.Context, id string) (name, digest string, err error)
	// Commit makes an image of a sandbox's image and a layer. DropUnfinished drops what is
	// left of a Commit that brigd's end cut short.
	Commit(ctx context.Context, id, layer, name string) (engine.Image, error)
	DropUnfinished(ctx context.Context) error
	Images(ctx context.Context) ([]engine.Image, error)
	RemoveImage(ctx context.Context, name string) error
}
