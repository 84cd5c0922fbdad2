package engine

import (
	"context"
	"fmt"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/containerd/v2/pkg/oci"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"brig/internal/journal"
	"brig/internal/sandbox"
	"brig/nodeagent/record"
)

// guestPath is where every sandbox finds the programs that the node lends it.
const guestPath = "/.brig"

// Guest is the path, inside a sandbox, of one of them.
func Guest(name string) string { return path.Join(guestPath, name) }

// Sandbox is what the engine makes. Paths are brigd's own; nothing in it comes from
// the image.
type Sandbox struct {
	ID          string
	Image       string
	ImageDigest string   // that Image must have; empty: any
	Restore     string   // path of a checkpoint to go on from; empty: none
	Argv        []string // empty: the guest that idles
	Env         map[string]string
	Workdir     string // empty: the image's
	Hostname    string
	Resources   record.Resources
	Mounts      []Mount
	Secrets     bool // the shim finds some (internal/secrets)
	Annotations map[string]string
	Netns       string // path; empty: the runtime gives it none
	Files       string // folder with hosts, hostname and resolv.conf
	Guest       string // folder of the programs that run inside, on the host
	Stdin       string // path of the journal that stdin is read from; empty: it is empty
	Stdout      journal.Spec
	Stderr      journal.Spec // not used with TTY
	TTY         bool
	Columns     uint16 // of the terminal at its start; 0: the runtime's
	Rows        uint16
	Traced      bool // the shim is to tell what it does
	Waits       bool // it is made to wait with Restore loaded, for a Claim
	Held        bool // it has waited with a checkpoint loaded
	// GPUs are UUIDs, sorted; of their driver the sandbox gets GPUCapabilities, sorted.
	GPUs, GPUCapabilities []string
}

// Mount is something at a path of the sandbox's.
type Mount struct {
	Target   string
	Source   string // path on the host, staged by brigd; empty: a tmpfs
	Writable bool
	SizeMiB  uint64 // of a tmpfs; 0: as much as the memory limit leaves
}

// options are the edits of containerd's default spec that make s of it. The image
// gives its environment, its user and its directory; its entrypoint is not run.
func (e *Engine) options(s Sandbox, image containerd.Image) []oci.SpecOpts {
	opts := []oci.SpecOpts{
		e.imageConfig(image),
		terminal(s),
		oci.WithEnv(environment(s.Env)),
		oci.WithHostname(s.Hostname),
		oci.WithCgroup(path.Join(e.cgroup, s.ID)),
		oci.WithAnnotations(annotations(s)),
		oci.WithMounts(append(files(s.Files), readOnly(s.Guest, guestPath))),
		oci.WithMounts(mounts(s.Mounts)),
		limits(s.Resources),
	}
	if s.Traced {
		opts = append(opts, oci.WithAnnotations(map[string]string{sandbox.AnnotationTrace: "true"}))
	}
	if len(s.Argv) > 0 {
		opts = append(opts, oci.WithProcessArgs(s.Argv...))
	} else {
		opts = append(opts, oci.WithProcessArgs(Guest("brig-idle")))
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

// mounts come with the outer ones first: whatever order they were asked for in, none
// covers another.
func mounts(list []Mount) []specs.Mount {
	list = slices.SortedFunc(slices.Values(list), func(a, b Mount) int { return strings.Compare(a.Target, b.Target) })
	out := make([]specs.Mount, 0, len(list))
	for _, m := range list {
		mode := "ro"
		if m.Writable {
			mode = "rw"
		}
		switch {
		case m.Source != "":
			out = append(out, specs.Mount{Type: "bind", Source: m.Source, Destination: m.Target, Options: []string{"bind", mode, "nosuid", "nodev"}})
		default:
			options := []string{mode, "nosuid", "nodev", "mode=1777"}
			if m.SizeMiB > 0 {
				options = append(options, fmt.Sprintf("size=%dm", m.SizeMiB))
			}
			out = append(out, specs.Mount{Type: "tmpfs", Source: "tmpfs", Destination: m.Target, Options: options})
		}
	}
	return out
}

// annotations are the policy's, and what only brigd may tell the shim.
func annotations(s Sandbox) map[string]string {
	out := maps.Clone(s.Annotations)
	if out == nil {
		out = map[string]string{}
	}
	if s.Resources.PIDs > 0 {
		out[sandbox.AnnotationPIDs] = strconv.FormatUint(s.Resources.PIDs, 10)
	}
	if s.Resources.DiskMiB > 0 {
		out[sandbox.AnnotationDiskMiB] = strconv.FormatUint(s.Resources.DiskMiB, 10)
	}
	if s.Secrets {
		out[sandbox.AnnotationSecrets] = "true"
	}
	if s.Waits {
		out[sandbox.AnnotationSlot] = "true"
	}
	if len(s.GPUs) > 0 {
		out[sandbox.AnnotationGPU] = cdiNames(s.GPUs)
		out[sandbox.AnnotationGPUCaps] = strings.Join(s.GPUCapabilities, ",")
	}
	return out
}

// cdiNames are of the specification that brigd keeps.
func cdiNames(uuids []string) string {
	names := make([]string, len(uuids))
	for i, uuid := range uuids {
		names[i] = record.CDIKind + "=" + uuid
	}
	return strings.Join(names, ",")
}

// period is the kernel's default; a quota is a share of it.
const period = 100_000

// sharesOfCore is what one core that is asked for weighs, as everywhere.
const sharesOfCore = 1024

func limits(r record.Resources) oci.SpecOpts {
	return func(_ context.Context, _ oci.Client, _ *containers.Container, spec *oci.Spec) error {
		if spec.Linux.Resources == nil {
			spec.Linux.Resources = &specs.LinuxResources{}
		}
		var cpu specs.LinuxCPU
		if r.CPU > 0 {
			quota, p := int64(r.CPU*period+0.5), uint64(period)
			cpu.Quota, cpu.Period = &quota, &p
		}
		if r.CPURequest > 0 {
			shares := min(max(uint64(r.CPURequest*sharesOfCore+0.5), 2), 1<<18) // the kernel's bounds
			cpu.Shares = &shares
		}
		var memory specs.LinuxMemory
		if r.MemoryMiB > 0 {
			// With swap on top of it the limit would not be one.
			limit := int64(r.MemoryMiB) << 20
			memory.Limit, memory.Swap = &limit, &limit
		}
		if r.MemoryRequestMiB > 0 {
			reservation := int64(r.MemoryRequestMiB) << 20
			memory.Reservation = &reservation
		}
		if cpu != (specs.LinuxCPU{}) {
			spec.Linux.Resources.CPU = &cpu
		}
		if memory != (specs.LinuxMemory{}) {
			spec.Linux.Resources.Memory = &memory
		}
		return nil
	}
}
