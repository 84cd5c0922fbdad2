package bundle

import (
	"path/filepath"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Host is what Normalize needs to know of where it runs.
type Host struct {
	Bundle       Bundle
	BlockNetwork bool // the sandbox will have no network, so it needs no namespace
	// Hostname of the node, which a container has that names none: Linux copies it into
	// a new namespace.
	Hostname string
	// LowestOOMScore is the lowest oom_score_adj that this process may give. runsc
	// fails a start, after the program has begun to run, if it may not set the score.
	LowestOOMScore int
	// AllowedAnnotations are the dev.gvisor.* keys that the operator lets through.
	AllowedAnnotations []string
	// GPUs are the paths of NVIDIA's nodes that belong to what was asked for, and that
	// CheckGPUs has found to be what they say. All others of the host are refused.
	GPUs []string
	// Own tells that brigd asks: the containerd namespace is its own.
	Own bool
	// Pod is made for others to join.
	Pod bool
	// Sandbox is runsc's id of the sandbox that the container joins; empty: it is the
	// root container of a new one.
	Sandbox string
	// SandboxPID is the sentry's, as containerd was told it. The namespaces of a
	// container that joins are named by it.
	SandboxPID int
}

// Normalize returns the spec that runsc is given, or an error for what can neither be
// honoured nor left out without harm; docs/spec.md has the whole list. in is not
// changed; the same input gives the same output.
func Normalize(in *specs.Spec, host Host) (*specs.Spec, error) {
	if err := check(in, host); err != nil {
		return nil, err
	}
	annotations, err := annotationsForRunsc(in.Annotations, host)
	if err != nil {
		return nil, err
	}
	filter, err := seccompForRunsc(in.Linux.Seccomp)
	if err != nil {
		return nil, err
	}
	out, root, process, linux := *in, *in.Root, *in.Process, *in.Linux
	out.Annotations, out.Root, out.Process, out.Linux = annotations, &root, &process, &linux
	out.Mounts, linux.Seccomp = mountsForRunsc(in.Mounts, host.Bundle), filter
	linux.Resources = limitsForRunsc(in.Linux.Resources)
	root.Path = host.Bundle.absolute(root.Path)
	if name, ok := in.Linux.Sysctl[domainname]; ok {
		out.Domainname = name
	}
	if out.Hostname == "" {
		out.Hostname = host.Hostname
	}
	if adj := process.OOMScoreAdj; adj != nil && *adj < host.LowestOOMScore {
		process.OOMScoreAdj = &host.LowestOOMScore
	}
	return &out, nil
}

// absolute resolves a path of config.json.
func (b Bundle) absolute(path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(string(b), path)
}

// mountsForRunsc writes the recursive options as the plain ones: a bind mount is one
// filesystem to the sandbox's kernel, whatever is mounted below its source, so that
// ro covers all of it. runsc ignores rro, and lets the program write.
func mountsForRunsc(in []specs.Mount, b Bundle) []specs.Mount {
	out := slices.Clone(in)
	for i := range out {
		m := &out[i]
		if isBind(m) {
			m.Source = b.absolute(m.Source)
		}
		m.Options = slices.Clone(m.Options)
		for j, o := range m.Options {
			if plain, ok := recursiveOptions[o]; ok {
				m.Options[j] = plain
			}
		}
	}
	return append(out, noTmpfs)
}

// noTmpfs keeps runsc from mounting a tmpfs of its own on an empty /tmp. Files there
// would be memory of the program's, would be writable in a read-only root, and would
// be missing from commit, diff, cp and the next start. runsc mounts nothing where a
// mount is asked for, and skips those of a type that it does not know.
var noTmpfs = specs.Mount{Destination: "/tmp", Type: "none of runsc's", Source: "none"}

// seccompForRunsc writes a filter in the words that runsc's --oci-seccomp knows. It has
// one error number, EPERM. ENOSYS matters: with it the engines' default filters hide
// clone3, and the C library falls back to clone for no other. The trace action is
// ENOSYS to a program that nobody traces.
func seccompForRunsc(in *specs.LinuxSeccomp) (*specs.LinuxSeccomp, error) {
	if in == nil {
		return nil, nil
	}
	if in.ListenerPath != "" {
		return nil, unsupported("linux.seccomp.listenerPath", "there is nobody in the sandbox's kernel who would ask")
	}
	out := *in
	out.Syscalls = slices.Clone(in.Syscalls)
	var err error
	if out.DefaultAction, err = action(in.DefaultAction, nil); err != nil {
		return nil, err
	}
	out.DefaultErrnoRet = nil
	for i := range out.Syscalls {
		s := &out.Syscalls[i]
		if s.Action, err = action(s.Action, s.ErrnoRet); err != nil {
			return nil, err
		}
		s.ErrnoRet = nil
		for _, arg := range s.Args {
			if arg.Index > 5 {
				return nil, invalid("linux.seccomp", "argument %d of a system call, which has six, from 0", arg.Index)
			}
		}
	}
	return &out, nil
}

func action(a specs.LinuxSeccompAction, errno *uint) (specs.LinuxSeccompAction, error) {
	switch a {
	case specs.ActErrno:
		if errno != nil && *errno == uint(unix.ENOSYS) {
			return specs.ActTrace, nil
		}
		return a, nil
	case specs.ActLog:
		return specs.ActAllow, nil
	case specs.ActKillThread, specs.ActKillProcess:
		return specs.ActKill, nil
	case specs.ActAllow, specs.ActKill, specs.ActTrap, specs.ActTrace:
		return a, nil
	default:
		return "", unsupported("linux.seccomp", "action "+string(a))
	}
}
