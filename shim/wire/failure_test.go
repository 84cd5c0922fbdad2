package wire

import (
	"errors"
	"fmt"
	"io/fs"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"
)

// An error is one line to its reader, however often it passes from one process to
// the next: the shim, containerd, its client.
func TestFailure(t *testing.T) {
	if err := failure(nil); err != nil {
		t.Errorf("no error: %v", err)
	}
	err := fmt.Errorf("program: %w: %w", fs.ErrNotExist, errdefs.ErrInvalidArgument)
	for range 2 {
		err = errgrpc.ToNative(failure(err))
	}
	if want := "program: file does not exist: invalid argument"; err.Error() != want || !errdefs.IsInvalidArgument(err) {
		t.Errorf("%q, want %q", err, want)
	}
	if err := errgrpc.ToNative(failure(errors.New("odd"))); err.Error() != "odd" {
		t.Errorf("without a class: %q", err)
	}
}
