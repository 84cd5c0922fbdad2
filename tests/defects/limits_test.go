package defects

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/containerd/containerd/v2/pkg/oci"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// Defect 7.
func TestLimits(t *testing.T) {
	t.Run("of memory", func(t *testing.T) {
		judge(t, func(ctx context.Context, n *node) error {
			heard, err := n.listen(ctx)
			if err != nil {
				return err
			}
			// A file in memory is the sentry's, which is thus the largest of the sandbox.
			p := sh("dd if=/dev/zero of=/big/file bs=1M count=500; sleep 5")
			p.opts = []oci.SpecOpts{oci.WithMemoryLimit(96 << 20), oci.WithMounts([]specs.Mount{
				{Destination: "/big", Type: "tmpfs", Source: "tmpfs"},
			})}
			code, _, err := n.run(ctx, "a", p)
			if err != nil {
				return err
			}
			if code != 137 {
				return fmt.Errorf("status %d, want 137", code)
			}
			return heard.once(ctx, "oom a")
		})
	})
	// One of processes counts those of the guest, or is refused: on the host it would
	// count the sentry's threads.
	t.Run("of processes", func(t *testing.T) {
		judge(t, func(ctx context.Context, n *node) error {
			p := sh("for i in 1 2 3 4 5 6 7 8 9 10; do sleep 1 & done; wait")
			p.opts = []oci.SpecOpts{oci.WithPidsLimit(5)}
			b, err := n.begin(ctx, "a", p)
			if errdefs.IsInvalidArgument(err) || errdefs.IsNotImplemented(err) || errdefs.IsFailedPrecondition(err) {
				return nil
			}
			if err != nil {
				return fmt.Errorf("neither honoured nor refused: %w", err)
			}
			code, err := ended(ctx, b.exited)
			if err == nil && code == 0 {
				err = errors.New("ten processes run where five may")
			}
			return err
		})
	})
}
