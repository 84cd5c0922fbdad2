package defects

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/containerd/cgroups/v3"
	v1 "github.com/containerd/cgroups/v3/cgroup1/stats"
	v2 "github.com/containerd/cgroups/v3/cgroup2/stats"
	runcoptions "github.com/containerd/containerd/api/types/runc/options"
	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/typeurl/v2"
	"golang.org/x/sys/unix"
)

// Defect 9.
func TestTheWholeAPI(t *testing.T) {
	t.Run("checkpoint and restore", func(t *testing.T) {
		judge(t, func(ctx context.Context, n *node) error {
			count := sh("i=0; while :; do i=$((i+1)); echo $i; sleep 0.05; done")
			b, err := n.begin(ctx, "a", count)
			if err != nil {
				return err
			}
			if err := b.output.await(ctx, "\n5\n"); err != nil {
				return err
			}
			image, err := b.Checkpoint(ctx)
			if err != nil {
				return err
			}
			count.task = []client.NewTaskOpts{client.WithTaskCheckpoint(image)}
			restored, err := n.begin(ctx, "b", count)
			if err != nil {
				return err
			}
			if err := restored.output.await(ctx, "\n"); err != nil {
				return err
			}
			first, _, _ := strings.Cut(restored.output.String(), "\n")
			if i, err := strconv.Atoi(first); err != nil || i < 5 {
				return fmt.Errorf("it goes on with %q, was at 5 or later", first)
			}
			return nil
		})
	})
	t.Run("sandboxes", func(t *testing.T) {
		judge(t, func(ctx context.Context, n *node) error {
			n.made = append(n.made, "s")
			s, err := n.NewSandbox(ctx, "s", client.WithSandboxRuntime(n.runtime, nil))
			if err != nil {
				return err
			}
			if err := s.Start(ctx); err != nil {
				return err
			}
			shim := n.SandboxController("shim")
			status, err := shim.Status(ctx, "s", false)
			if err != nil || status.State != "SANDBOX_READY" {
				return fmt.Errorf("status %q: %w", status.State, err)
			}
			if _, err := shim.Metrics(ctx, "s"); err != nil {
				return fmt.Errorf("metrics: %w", err)
			}
			exited, err := s.Wait(ctx)
			if err != nil {
				return err
			}
			if err := s.Stop(ctx); err != nil {
				return err
			}
			_, err = ended(ctx, exited)
			return errors.Join(err, s.Shutdown(ctx))
		})
	})
}

// Defect 10.
func TestPids(t *testing.T) {
	judge(t, func(ctx context.Context, n *node) error {
		b, err := n.begin(ctx, "a", idle)
		if err != nil {
			return err
		}
		p, _, err := b.exec(ctx, "x", "sleep", "1000")
		if err != nil {
			return err
		}
		if err := p.Start(ctx); err != nil {
			return err
		}
		list, err := b.Pids(ctx)
		if err != nil {
			return err
		}
		var errs []error
		if !slices.ContainsFunc(list, func(i client.ProcessInfo) bool { return i.Pid == b.Pid() }) {
			errs = append(errs, fmt.Errorf("the task's pid %d is not among %v", b.Pid(), list))
		}
		if !slices.ContainsFunc(list, func(i client.ProcessInfo) bool {
			var d runcoptions.ProcessDetails
			return i.Info != nil && typeurl.UnmarshalTo(i.Info, &d) == nil && d.ExecID == "x"
		}) {
			errs = append(errs, fmt.Errorf("exec x is not among %v", list))
		}
		for _, i := range list {
			if unix.Kill(int(i.Pid), 0) != nil {
				errs = append(errs, fmt.Errorf("pid %d is none of the host's", i.Pid))
			}
		}
		return errors.Join(errs...)
	})
}

// TestStatsAreOfTheHostsHierarchy is the other half of defect 10. gVisor's shim has the
// flag for systemd in its configuration, from which nothing follows for the host's mode.
func TestStatsAreOfTheHostsHierarchy(t *testing.T) {
	o := options{flags: map[string]string{"systemd-cgroup": strconv.FormatBool(cgroups.Mode() != cgroups.Unified), "ignore-cgroups": "true"}}
	judgeOn(t, o, func(ctx context.Context, n *node) error {
		b, err := n.begin(ctx, "a", idle)
		if err != nil {
			return err
		}
		metric, err := b.Metrics(ctx)
		if err != nil {
			return err
		}
		v, err := typeurl.UnmarshalAny(metric.Data)
		if err != nil {
			return err
		}
		var used uint64
		switch m := v.(type) {
		case *v1.Metrics:
			used = m.GetMemory().GetUsage().GetUsage()
		case *v2.Metrics:
			used = m.GetMemory().GetUsage()
		}
		if _, unified := v.(*v2.Metrics); unified != (cgroups.Mode() == cgroups.Unified) || used == 0 {
			return fmt.Errorf("%T with %d bytes of memory, on a host of mode %v", v, used, cgroups.Mode())
		}
		return nil
	})
}
