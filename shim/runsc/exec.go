package runsc

import (
	"fmt"
	"path"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// ExecArgs describe a process for Control.Exec.
type ExecArgs struct {
	Argv             []string      `json:"argv"`
	Envv             []string      `json:"envv"`
	WorkingDirectory string        `json:"wd"`
	KUID             uint32        // in the sandbox's root user namespace
	KGID             uint32        //
	ExtraKGIDs       []uint32      //
	NoNewPrivileges  bool          //
	Capabilities     *Capabilities //
	StdioIsPty       bool          // the three files are one terminal
	SupportTTYs      bool          //
	GuestFDs         []int         // which descriptors the files become
	ContainerID      string        //
}

// Capabilities are gVisor's sets, bit n for capability n.
type Capabilities struct {
	PermittedCaps, InheritableCaps, EffectiveCaps, BoundingCaps, AmbientCaps uint64
}

// NewExecArgs translates an OCI process for the container id. Without capabilities
// of its own it gets the container's.
func NewExecArgs(id string, p *specs.Process, container *specs.LinuxCapabilities) (ExecArgs, error) {
	if len(p.Args) == 0 {
		return ExecArgs{}, fmt.Errorf("process has no arguments")
	}
	if !path.IsAbs(p.Cwd) {
		return ExecArgs{}, fmt.Errorf("working directory %q is not absolute", p.Cwd)
	}
	named := p.Capabilities
	if named == nil {
		named = container
	}
	caps, err := newCapabilities(named)
	if err != nil {
		return ExecArgs{}, err
	}
	return ExecArgs{
		Argv: p.Args, Envv: p.Env, WorkingDirectory: p.Cwd,
		KUID: p.User.UID, KGID: p.User.GID, ExtraKGIDs: p.User.AdditionalGids,
		NoNewPrivileges: p.NoNewPrivileges, Capabilities: caps,
		StdioIsPty: p.Terminal, SupportTTYs: true, ContainerID: id,
	}, nil
}

func newCapabilities(named *specs.LinuxCapabilities) (*Capabilities, error) {
	c := new(Capabilities)
	if named == nil {
		return c, nil
	}
	for _, set := range []struct {
		bits  *uint64
		names []string
	}{
		{&c.PermittedCaps, named.Permitted}, {&c.InheritableCaps, named.Inheritable},
		{&c.EffectiveCaps, named.Effective}, {&c.BoundingCaps, named.Bounding}, {&c.AmbientCaps, named.Ambient},
	} {
		for _, name := range set.names {
			bit := slices.Index(capabilityNames, name)
			if bit < 0 {
				return nil, fmt.Errorf("unknown capability %q", name)
			}
			// runsc takes raw sockets from a container's first process too, unless it
			// runs with --net-raw.
			if name != "CAP_NET_RAW" {
				*set.bits |= 1 << bit
			}
		}
	}
	return c, nil
}

// capabilityNames in the kernel's order.
var capabilityNames = []string{
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL",
	"CAP_SETGID", "CAP_SETUID", "CAP_SETPCAP", "CAP_LINUX_IMMUTABLE", "CAP_NET_BIND_SERVICE",
	"CAP_NET_BROADCAST", "CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_IPC_LOCK", "CAP_IPC_OWNER", "CAP_SYS_MODULE",
	"CAP_SYS_RAWIO", "CAP_SYS_CHROOT", "CAP_SYS_PTRACE", "CAP_SYS_PACCT", "CAP_SYS_ADMIN", "CAP_SYS_BOOT",
	"CAP_SYS_NICE", "CAP_SYS_RESOURCE", "CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG", "CAP_MKNOD", "CAP_LEASE",
	"CAP_AUDIT_WRITE", "CAP_AUDIT_CONTROL", "CAP_SETFCAP", "CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN", "CAP_SYSLOG",
	"CAP_WAKE_ALARM", "CAP_BLOCK_SUSPEND", "CAP_AUDIT_READ", "CAP_PERFMON", "CAP_BPF", "CAP_CHECKPOINT_RESTORE",
}
