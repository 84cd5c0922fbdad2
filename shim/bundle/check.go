package bundle

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"brig/internal/sandbox"

	"github.com/containerd/containerd/v2/pkg/cap"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// unsupported refuses what this version of runsc, or any sandbox, cannot do.
func unsupported(field, why string) error {
	return fmt.Errorf("%s: %s: %w", field, why, errdefs.ErrNotImplemented)
}

// invalid refuses what no runtime could do.
func invalid(field, format string, args ...any) error {
	return fmt.Errorf("%s: %s: %w", field, fmt.Sprintf(format, args...), errdefs.ErrInvalidArgument)
}

// check refuses what can neither be honoured nor left out. runsc itself would ignore
// most of it, with a line in a log.
func check(in *specs.Spec, host Host) error {
	if in.Process == nil || in.Root == nil || in.Root.Path == "" || in.Linux == nil {
		return fmt.Errorf("OCI spec without process, root or linux section: %w", errdefs.ErrInvalidArgument)
	}
	if in.Hooks != nil && len(in.Hooks.StartContainer) > 0 {
		return unsupported("startContainer hooks", "runsc would silently skip them")
	}
	if in.Windows != nil || in.Solaris != nil || in.VM != nil {
		return unsupported("windows, solaris, vm", "this is Linux")
	}
	for _, err := range []error{
		checkText(in), checkProcess(in.Process), checkMounts(in), checkNamespaces(in.Linux, host),
		checkLinux(in.Linux), checkResources(in.Linux.Resources), checkPaths(in.Linux), checkSysctls(in.Linux.Sysctl),
		checkDevices(in.Linux.Devices, host.GPUs),
	} {
		if err != nil {
			return err
		}
	}
	return nil
}

// checkText keeps NUL out of what ends up in a path, an argument or a name: whoever
// reads it in C reads less than what was checked.
func checkText(in *specs.Spec) error {
	for _, f := range []struct {
		name   string
		values []string
	}{
		{"root.path", []string{in.Root.Path}}, {"hostname", []string{in.Hostname}}, {"domainname", []string{in.Domainname}},
		{"process.cwd", []string{in.Process.Cwd}}, {"process.args", in.Process.Args}, {"process.env", in.Process.Env},
		{"linux.cgroupsPath", []string{in.Linux.CgroupsPath}},
	} {
		if slices.ContainsFunc(f.values, hasNUL) {
			return invalid(f.name, "a NUL character")
		}
	}
	return nil
}

func hasNUL(s string) bool { return strings.ContainsRune(s, 0) }

// defaultProfiles are the AppArmor profiles that engines name where nobody asked for
// any. They keep a program from the host's kernel, which it does not reach.
var defaultProfiles = []string{"", "unconfined", "docker-default", "nerdctl-default", "cri-containerd.apparmor.d", "crio-default"}

var rlimits = []string{
	"RLIMIT_AS", "RLIMIT_CORE", "RLIMIT_CPU", "RLIMIT_DATA", "RLIMIT_FSIZE", "RLIMIT_LOCKS", "RLIMIT_MEMLOCK",
	"RLIMIT_MSGQUEUE", "RLIMIT_NICE", "RLIMIT_NOFILE", "RLIMIT_NPROC", "RLIMIT_RSS", "RLIMIT_RTPRIO", "RLIMIT_RTTIME",
	"RLIMIT_SIGPENDING", "RLIMIT_STACK",
}

func checkProcess(p *specs.Process) error {
	if len(p.Args) == 0 || p.Args[0] == "" {
		return invalid("process.args", "no program")
	}
	for _, env := range p.Env {
		if !strings.Contains(env, "=") {
			return invalid("process.env", "%q is no NAME=value", env)
		}
	}
	for _, l := range p.Rlimits {
		if !slices.Contains(rlimits, l.Type) {
			return invalid("process.rlimits", "unknown limit %q", l.Type)
		}
	}
	if c, known := p.Capabilities, cap.Known(); c != nil {
		for _, name := range slices.Concat(c.Bounding, c.Effective, c.Inheritable, c.Permitted, c.Ambient) {
			if !slices.Contains(known, name) {
				return invalid("process.capabilities", "unknown capability %q", name)
			}
		}
	}
	switch {
	case !slices.Contains(defaultProfiles, p.ApparmorProfile):
		return unsupported("process.apparmorProfile", "the sandbox's kernel has no AppArmor to apply "+p.ApparmorProfile)
	case p.SelinuxLabel != "":
		return unsupported("process.selinuxLabel", "the sandbox's kernel has no SELinux")
	case p.Scheduler != nil:
		return unsupported("process.scheduler", "the sandbox's kernel schedules by itself")
	case p.IOPriority != nil:
		return unsupported("process.ioPriority", "the sandbox's kernel has none")
	case p.ExecCPUAffinity != nil:
		return unsupported("process.execCPUAffinity", "the sandbox's kernel schedules by itself")
	}
	return nil
}

func checkLinux(l *specs.Linux) error {
	switch {
	case l.MountLabel != "":
		return unsupported("linux.mountLabel", "the sandbox's kernel has no SELinux")
	case l.IntelRdt != nil:
		return unsupported("linux.intelRdt", "runsc does not set it")
	case l.MemoryPolicy != nil:
		return unsupported("linux.memoryPolicy", "runsc does not set it")
	case l.Personality != nil && (l.Personality.Domain != specs.PerLinux || len(l.Personality.Flags) > 0):
		return unsupported("linux.personality", "the sandbox's kernel has one personality, LINUX")
	case len(l.TimeOffsets) > 0:
		return unsupported("linux.timeOffsets", "the sandbox's kernel has no time namespaces")
	case len(l.NetDevices) > 0:
		return unsupported("linux.netDevices", "runsc takes the links of the network namespace, and moves none there")
	case strings.Contains(l.RootfsPropagation, "shared"):
		return unsupported("linux.rootfsPropagation", "mounts of a sandbox do not appear on the host")
	}
	return nil
}

// checkPaths: runsc masks nothing. What an engine masks by default in /proc and /sys is
// the sandbox's own there, or is not there at all; elsewhere a path would be open that
// its author meant to close.
func checkPaths(l *specs.Linux) error {
	for _, path := range slices.Concat(l.MaskedPaths, l.ReadonlyPaths) {
		clean := filepath.Clean(path)
		if !strings.HasPrefix(clean, "/proc/") && !strings.HasPrefix(clean, "/sys/") {
			return unsupported("linux.maskedPaths, linux.readonlyPaths", path+": runsc masks nothing; mount over it instead")
		}
	}
	return nil
}

// domainname is the one sysctl that the OCI spec has a field for.
const domainname = "kernel.domainname"

// sysctls are those that runsc sets, and those that hold in a sandbox as they are:
// engines open low ports and ping sockets to all by default.
var sysctls = map[string]func(value string) bool{
	domainname:                            func(string) bool { return true },
	"fs.nr_open":                          positive,
	"net.ipv6.conf.all.disable_ipv6":      func(v string) bool { return v == "0" || v == "1" },
	"net.ipv4.ip_unprivileged_port_start": func(v string) bool { return v == "0" },
	"net.ipv4.ping_group_range":           func(v string) bool { return strings.Join(strings.Fields(v), " ") == "0 2147483647" },
}

func checkSysctls(set map[string]string) error {
	for _, key := range slices.Sorted(maps.Keys(set)) {
		holds, known := sysctls[key]
		switch {
		case !known:
			return unsupported("linux.sysctl", "runsc does not set "+key)
		case !holds(set[key]):
			return unsupported("linux.sysctl", fmt.Sprintf("%s=%q cannot be had in a sandbox", key, set[key]))
		}
	}
	return nil
}

// checkResources: runsc sets the rest in the sandbox's cgroup, or fails.
func checkResources(r *specs.LinuxResources) error {
	if r == nil {
		return nil
	}
	processes, counted := r.Unified["pids.max"]
	together, told := r.Unified["memory.oom.group"]
	switch {
	case r.Pids != nil && r.Pids.Limit != nil && *r.Pids.Limit > 0, counted && processes != "max":
		return fmt.Errorf("a limit of processes: on the host it would count the sandbox kernel's threads: %w",
			errdefs.ErrNotImplemented)
	case r.CPU != nil && (r.CPU.Burst != nil || r.CPU.Idle != nil && *r.CPU.Idle != 0):
		return unsupported("linux.resources.cpu", "runsc sets neither burst nor idle")
	case r.Memory != nil && r.Memory.DisableOOMKiller != nil && *r.Memory.DisableOOMKiller:
		return unsupported("linux.resources.memory.disableOOMKiller", "a sandbox out of memory would hang for ever")
	case told && together != "1":
		return unsupported("linux.resources.unified.memory.oom.group", "the processes of a sandbox have one memory, and die together")
	case len(r.Rdma) > 0:
		return unsupported("linux.resources.rdma", "runsc does not set it")
	}
	return nil
}

// checkNamespaces: a sandbox has namespaces of its own, in its own kernel. One that is
// not asked for is the sandbox's all the same; more is kept apart than was asked.
// Those of other processes are out of its reach, but for the network and the user
// namespace, which the sentry and its gofer run in.
func checkNamespaces(l *specs.Linux, host Host) error {
	has := make(map[specs.LinuxNamespaceType]bool)
	for _, ns := range l.Namespaces {
		has[ns.Type] = true
		own := host.Sandbox != "" && ns.Path == fmt.Sprintf("/proc/%d/ns/%s", host.SandboxPID, ns.Type)
		switch {
		case hasNUL(ns.Path):
			return invalid("linux.namespaces", "a NUL character")
		case ns.Type == specs.NetworkNamespace:
		case ns.Type == specs.UserNamespace:
			if err := checkUserNamespace(l, ns, host); err != nil {
				return err
			}
		case !slices.Contains(namespaces, ns.Type):
			return invalid("linux.namespaces", "unknown type %q", ns.Type)
		case ns.Path != "" && !own:
			return unsupported("linux.namespaces", fmt.Sprintf("the %s namespace %s is not the sandbox's", ns.Type, ns.Path))
		}
	}
	if host.Sandbox != "" {
		return nil
	}
	if !has[specs.NetworkNamespace] && !host.BlockNetwork {
		return fmt.Errorf("the host's network: a sandbox needs a network namespace of its own, or %s: %w",
			sandbox.AnnotationBlockNetwork, errdefs.ErrInvalidArgument)
	}
	for _, shared := range []specs.LinuxNamespaceType{specs.PIDNamespace, specs.IPCNamespace} {
		if host.Pod && !has[shared] {
			return unsupported("linux.namespaces", fmt.Sprintf("the host's %s namespace for a pod: a sandbox sees nothing of it, do not ask for it", shared))
		}
	}
	return nil
}

var namespaces = []specs.LinuxNamespaceType{
	specs.PIDNamespace, specs.IPCNamespace, specs.UTSNamespace, specs.MountNamespace, specs.CgroupNamespace, specs.TimeNamespace,
}

func checkUserNamespace(l *specs.Linux, ns specs.LinuxNamespace, host Host) error {
	root := func(m specs.LinuxIDMapping) bool { return m.ContainerID == 0 && m.Size > 0 }
	switch {
	case host.Sandbox != "":
		return unsupported("linux.namespaces", "a user namespace for one container of a sandbox, which has one kernel")
	case ns.Path != "":
		return unsupported("linux.namespaces", "runsc cannot join the user namespace "+ns.Path)
	case !slices.ContainsFunc(l.UIDMappings, root) || !slices.ContainsFunc(l.GIDMappings, root):
		return unsupported("linux.uidMappings, linux.gidMappings", "runsc needs user and group 0 of the sandbox mapped")
	}
	return nil
}

func positive(s string) bool {
	n, err := strconv.ParseInt(s, 10, 32)
	return err == nil && n > 0
}
