package task

import (
	"context"
	"errors"

	"brig/shim/stdio"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// RunExec is AddExec and StartExec. What does not come to run is forgotten.
func (s *Shim) RunExec(ctx context.Context, id, execID string, spec *specs.Process, streams stdio.Config) error {
	if err := s.AddExec(id, execID, spec, streams); err != nil {
		return err
	}
	if _, err := s.StartExec(ctx, id, execID); err != nil {
		_, _, forgotten := s.DeleteExec(id, execID)
		if errdefs.IsNotFound(forgotten) { // by another caller
			forgotten = nil
		}
		return errors.Join(err, forgotten)
	}
	return nil
}
