package checkpoints

import (
	"testing"

	"github.com/containerd/errdefs"
)

func TestGPUs(t *testing.T) {
	if err := CheckGPUs("sb-a", 0); err != nil {
		t.Error(err)
	}
	const saved = "sandbox sb-a has GPUs, whose memory cannot be kept in a checkpoint: keep its files with a snapshot, or let its program write a checkpoint of its own"
	if err := CheckGPUs("sb-a", 2); !errdefs.IsFailedPrecondition(err) || err.Error() != saved {
		t.Error(err)
	}
}
