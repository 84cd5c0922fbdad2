package engine

import (
	"context"
	"maps"
	"path"
	"path/filepath"
	"slices"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/containerd/v2/pkg/oci"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"brig/internal/journal"
)

// idlePath is where a sandbox without a program finds the one that idles.
const idlePath = "/.brig/idle"

// Sandbox is what the engine makes. Paths are brigd's own; nothing in it comes from
// the image.
type Sandbox struct {
	ID          string
	Image       string
	ImageDigest string   // that Image must have; empty: any
	Restore     string   // path of a checkpoint to go on from; empty: none
	Argv        []string // empty: Idle
	Env         map[string]string
	Workdir     string // empty: the image's
	Hostname    string
	CPU         float64 // cores; 0: no limit
	MemoryMiB   uint64  // 0: no limit
	Annotations map[string]string
	Netns       string // path; empty: the runtime gives it none
	Files       string // folder with hosts, hostname and resolv.conf
	Idle        string // the binary that idles, on the host
	Stdin       string // path of the journal that stdin is read from; empty: it is empty
	Stdout      journal.Spec
	Stderr      journal.Spec // not used with TTY
	TTY         bool
	Columns     uint16 // of the terminal at its start; 0: the runtime's
	Rows        uint16
}

// options are the edits of containerd's default spec that make s of it. The image
// gives its environment, its user and its directory; its entrypoint is not run.
func (e *Engine) options(s Sandbox, image containerd.Image) []oci.SpecOpts {
	opts := []oci.SpecOpts{
		imageConfig(image),
		terminal(s),
		oci.WithEnv(environment(s.Env)),
		oci.WithHostname(s.Hostname),
		oci.WithCgroup(path.Join(e.cgroup, s.ID)),
		oci.WithAnnotations(s.Annotations),
		oci.WithMounts(files(s.Files)),
		limits(s),
	}
	if len(s.Argv) > 0 {
		opts = append(opts, oci.WithProcessArgs(s.Argv...))
	} else {
		opts = append(opts, oci.WithProcessArgs(idlePath), oci.WithMounts([]specs.Mount{readOnly(s.Idle, idlePath)}))
	}
	if s.Workdir != "" {
		opts = append(opts, oci.WithProcessCwd(s.Workdir))
	}
	if s.Netns != "" {
		opts = append(opts, oci.WithLinuxNamespace(specs.LinuxNamespace{Type: specs.NetworkNamespace, Path: s.Netns}))
	}
	return opts
}

// terminal comes before the environment, which may name another one.
func terminal(s Sandbox) oci.SpecOpts {
	if !s.TTY {
		return func(context.Context, oci.Client, *containers.Container, *oci.Spec) error { return nil }
	}
	if s.Columns == 0 || s.Rows == 0 {
		return oci.WithTTY
	}
	return oci.Compose(oci.WithTTY, oci.WithTTYSize(int(s.Columns), int(s.Rows)))
}

func environment(env map[string]string) []string {
	list := make([]string, 0, len(env))
	for _, k := range slices.Sorted(maps.Keys(env)) {
		list = append(list, k+"="+env[k])
	}
	return list
}

// files are read-only: they lie on the host's disk, which a sandbox must not fill.
func files(dir string) (mounts []specs.Mount) {
	for _, name := range []string{"hosts", "hostname", "resolv.conf"} {
		mounts = append(mounts, readOnly(filepath.Join(dir, name), "/etc/"+name))
	}
	return mounts
}

func readOnly(source, destination string) specs.Mount {
	return specs.Mount{Type: "bind", Source: source, Destination: destination, Options: []string{"bind", "ro"}}
}

// period is the kernel's default; a quota is a share of it.
const period = 100_000

func limits(s Sandbox) oci.SpecOpts {
	return func(_ context.Context, _ oci.Client, _ *containers.Container, spec *oci.Spec) error {
		if spec.Linux.Resources == nil {
			spec.Linux.Resources = &specs.LinuxResources{}
		}
		if s.CPU > 0 {
			quota, p := int64(s.CPU*period+0.5), uint64(period)
			spec.Linux.Resources.CPU = &specs.LinuxCPU{Quota: &quota, Period: &p}
		}
		if s.MemoryMiB > 0 {
			// With swap on top of it the limit would not be one.
			limit := int64(s.MemoryMiB) << 20
			spec.Linux.Resources.Memory = &specs.LinuxMemory{Limit: &limit, Swap: &limit}
		}
		return nil
	}
}
