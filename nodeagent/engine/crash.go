package engine

import (
	"context"
	"fmt"

	"github.com/containerd/errdefs"

	"brig/internal/sandbox"
)

// Crashed tells of a sandbox that has ended whether its kernel died, instead of its
// program. Its shim knows until the sandbox is removed; one of an earlier brig's does not,
// and then the answer is no.
func (e *Engine) Crashed(ctx context.Context, id string) (bool, error) {
	err := e.askShim(e.in(ctx), id, sandbox.AskCrashed, nil)
	switch {
	case err == nil:
		return true, nil
	case errdefs.IsFailedPrecondition(err), errdefs.IsInvalidArgument(err):
		return false, nil
	}
	return false, fmt.Errorf("ask whether the kernel of %s died: %w", id, err)
}
