package defects

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"brig/tests/peer"

	"github.com/containerd/cgroups/v3"
	runcoptions "github.com/containerd/containerd/api/types/runc/options"
	runtimeoptions "github.com/containerd/containerd/api/types/runtimeoptions/v1"
	"github.com/containerd/errdefs"
)

// Defect 8.
func TestOptions(t *testing.T) {
	t.Run("runc's, empty", func(t *testing.T) {
		judge(t, func(ctx context.Context, n *node) error {
			p := idle
			p.runtime = &runcoptions.Options{}
			_, err := n.begin(ctx, "a", p)
			return err
		})
	})
	t.Run("an inline body", func(t *testing.T) {
		judge(t, func(ctx context.Context, n *node) error {
			o, p := peer.Options(""), idle
			o.ConfigBody = []byte("binary_name = \"/no/such/runsc\"\n")
			if !*gvisor {
				o = &runtimeoptions.Options{ConfigBody: fmt.Appendf(nil, "run_dir = %q\n[runsc]\npath = \"/no/such/runsc\"\n", n.path("run"))}
			}
			p.runtime = o
			_, err := n.create(ctx, "a", p)
			return fails(err, "/no/such/runsc")
		})
	})
	t.Run("an unknown key", func(t *testing.T) {
		judge(t, func(ctx context.Context, n *node) error {
			if err := n.configure("no_such_key", "1"); err != nil {
				return err
			}
			_, err := n.create(ctx, "a", idle)
			return fails(err, "no_such_key")
		})
	})
	// A shim either goes where it is told or says that it does not.
	t.Run("the shim's cgroup", func(t *testing.T) {
		judge(t, func(ctx context.Context, n *node) error {
			group, p := "/brig-"+n.name+"-shim", idle
			if err := makeCgroup(group); err != nil {
				return err
			}
			p.runtime = &runcoptions.Options{ShimCgroup: group}
			if *gvisor {
				p.runtime = nil
				if err := n.configure("shim_cgroup", group); err != nil {
					return err
				}
			}
			if _, err := n.create(ctx, "a", p); errdefs.IsInvalidArgument(err) || errdefs.IsFailedPrecondition(err) {
				return nil
			} else if err != nil {
				return err
			}
			pid, err := n.shim("a")
			if err != nil {
				return err
			}
			groups, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
			if err == nil && !strings.Contains(string(groups), ":"+group+"\n") {
				err = fmt.Errorf("the shim is not in %s, and did not say so:\n%s", group, groups)
			}
			return err
		})
	})
}

// configure sets a key of the file that the shim reads.
func (n *node) configure(key, value string) error {
	path := n.path("brig.toml")
	if *gvisor {
		path = n.path("gvisor.toml")
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return os.WriteFile(path, fmt.Appendf(nil, "%s = %q\n%s", key, value, text), 0o600)
}

// makeCgroup in every hierarchy of version 1, or in the one of version 2.
func makeCgroup(path string) error {
	hierarchies := []string{"/sys/fs/cgroup"}
	if cgroups.Mode() != cgroups.Unified {
		hierarchies, _ = filepath.Glob("/sys/fs/cgroup/*")
	}
	for _, h := range hierarchies {
		if err := os.Mkdir(h+path, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
		for _, file := range []string{"/cpuset.cpus", "/cpuset.mems"} { // without them nothing may enter
			if data, err := os.ReadFile(h + file); err == nil {
				if err := os.WriteFile(h+path+file, data, 0); err != nil {
					return err
				}
			}
		}
	}
	return nil
}
