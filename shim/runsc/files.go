package runsc

import (
	"context"
	"fmt"
	"os"
)

// fileSaveArgs name no paths: then it is the root's writable layer that is saved.
type fileSaveArgs struct {
	ExitAfterSaving    bool `json:"exit_after_saving"`
	UseCheckpointGofer bool `json:"use_checkpoint_gofer"`
}

// SaveTree writes into tree what the sandbox has written to its root filesystem, as a
// tar archive in which a regular file's content is a list of where its bytes are in the
// filestore of the overlay. The bytes themselves are not written anywhere: they stand in
// the filestore for as long as the sandbox is paused, which it must be.
//
// gVisor's own archive of the bytes, Fs.TarRootfsUpperLayer, holds every file in the
// sentry's memory as a whole: a file larger than the memory limit ends the sandbox.
func (c *Control) SaveTree(ctx context.Context, tree *os.File) error {
	nowhere, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("save the tree of files: %w", err)
	}
	defer nowhere.Close()
	// In gVisor's order: manifest, archive, index of pages, pages.
	return c.call(ctx, "containerManager.FSSave", &fileSaveArgs{}, nil, nowhere, tree, nowhere, nowhere)
}
