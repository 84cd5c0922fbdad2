package defects

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/containerd/v2/pkg/oci"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Defect 5.
func TestWhatNeverStartedIsDeleted(t *testing.T) {
	for name, happens := range map[string]func(context.Context, *node, *box) error{
		"only created": func(context.Context, *node, *box) error { return nil },
		"failed to start": func(ctx context.Context, _ *node, b *box) error {
			if err := b.Start(ctx); err == nil {
				return errors.New("what is no program starts")
			}
			return nil
		},
		"before containerd did": func(_ context.Context, n *node, _ *box) error {
			return errors.Join(n.kill(), n.start("ttrpc"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			judge(t, func(ctx context.Context, n *node) error {
				broken := program{argv: []string{"/broken"}, opts: []oci.SpecOpts{oci.WithMounts([]specs.Mount{
					{Destination: "/broken", Type: "bind", Source: n.path("broken.elf"), Options: []string{"bind", "ro"}},
				})}}
				if err := os.WriteFile(n.path("broken.elf"), []byte("\x7fELF"), 0o755); err != nil {
					return err
				}
				b, err := n.create(ctx, "a", broken)
				if err != nil {
					return err
				}
				if err := happens(ctx, n, b); err != nil {
					return err
				}
				c, err := n.LoadContainer(ctx, "a")
				if err != nil {
					return err
				}
				return errors.Join(remove(ctx, c), n.isFreed(ctx))
			})
		})
	}
}

// TestADeadShimIsCleanedUpAfter is defect 13.
func TestADeadShimIsCleanedUpAfter(t *testing.T) {
	t.Run("with the program's status", func(t *testing.T) {
		judge(t, func(ctx context.Context, n *node) error {
			heard, err := n.listen(ctx)
			if err != nil {
				return err
			}
			b, err := n.begin(ctx, "a", sh("sleep 0.3; exit 7"))
			if err != nil {
				return err
			}
			if code, err := ended(ctx, b.exited); err != nil || code != 7 {
				return fmt.Errorf("status %d, want 7: %w", code, err)
			}
			if err := n.killShim("a"); err != nil {
				return err
			}
			if err := heard.once(ctx, "delete a 7"); err != nil {
				return err
			}
			return n.isFreed(ctx)
		})
	})
	// The record that the delete verb reads: not written yet, or half.
	for name, spoil := range map[string]func(string) error{
		"without its record":   os.Remove,
		"with a record cut up": func(path string) error { return os.Truncate(path, 20) },
	} {
		t.Run(name, func(t *testing.T) {
			judge(t, func(ctx context.Context, n *node) error {
				heard, err := n.listen(ctx)
				if err != nil {
					return err
				}
				if _, err := n.begin(ctx, "a", idle); err != nil {
					return err
				}
				if err := errors.Join(spoil(n.record("a")), n.killShim("a")); err != nil {
					return err
				}
				if err := heard.once(ctx, "delete a 137"); err != nil {
					return err
				}
				return n.isFreed(ctx)
			})
		})
	}
}

// record of a task, from which the delete verb knows what to free.
func (n *node) record(id string) string {
	bundle := filepath.Join(n.dir, "state", "io.containerd.runtime.v2.task", n.name, id)
	if *gvisor {
		return filepath.Join(bundle, "state.json")
	}
	return filepath.Join(bundle, "brig", "record.json")
}

// shim of a container, as a pid.
func (n *node) shim(id string) (int, error) {
	for pid, cmdline := range n.processes() {
		if strings.Contains(cmdline, "containerd-shim-") && strings.Contains(cmdline+" ", " -id "+id+" ") {
			return pid, nil
		}
	}
	return 0, fmt.Errorf("%s has no shim", id)
}

func (n *node) killShim(id string) error {
	pid, err := n.shim(id)
	if err != nil {
		return err
	}
	return unix.Kill(pid, unix.SIGKILL)
}

// isFreed waits until there is nothing but containerd.
func (n *node) isFreed(ctx context.Context) error {
	return eventually(ctx, func() error {
		for pid, cmdline := range n.processes() {
			if pid != n.daemon.Process.Pid {
				return fmt.Errorf("process %d is left: %s", pid, cmdline)
			}
		}
		for _, path := range n.mounts() {
			if filepath.Base(path) != "null-netns" { // runsc's, one for a node
				return fmt.Errorf("a mount is left: %s", path)
			}
		}
		if left := n.cgroups(); len(left) > 0 {
			return fmt.Errorf("cgroups are left: %v", left)
		}
		return nil
	})
}
