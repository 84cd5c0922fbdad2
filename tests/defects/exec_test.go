package defects

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Defect 11.
func TestAFailedExec(t *testing.T) {
	t.Run("has a status", func(t *testing.T) {
		judge(t, func(ctx context.Context, n *node) error {
			b, err := n.begin(ctx, "a", idle)
			if err != nil {
				return err
			}
			p, exited, err := b.exec(ctx, "x", "/no/such/program")
			if err != nil {
				return err
			}
			if err := fails(p.Start(ctx), "/no/such/program"); err != nil {
				return err
			}
			code, err := ended(ctx, exited)
			if err == nil && code == 0 {
				err = errors.New("status 0")
			}
			return err
		})
	})
	t.Run("is not blamed for a later failure", func(t *testing.T) {
		judge(t, func(ctx context.Context, n *node) error {
			b, err := n.begin(ctx, "a", idle)
			if err != nil {
				return err
			}
			p, _, err := b.exec(ctx, "x", "/no/such/program")
			if err != nil {
				return err
			}
			if err := p.Start(ctx); err == nil {
				return errors.New("what is not there starts")
			}
			if err := os.WriteFile(n.path("broken"), nil, 0o600); err != nil { // runsc fails from here on
				return err
			}
			_, errStatus := b.Status(ctx)
			errKill := b.Kill(ctx, unix.SIGKILL)
			if err := errors.Join(errStatus, errKill); err != nil && strings.Contains(err.Error(), "/no/such/program") {
				return fmt.Errorf("what failed is the exec, again: %w", err)
			}
			if _, err := ended(ctx, b.exited); err != nil {
				return err
			}
			if _, err := b.Delete(ctx); err != nil && strings.Contains(err.Error(), "/no/such/program") {
				return fmt.Errorf("what failed is the exec, again: %w", err)
			}
			return os.Remove(n.path("broken"))
		})
	})
}
