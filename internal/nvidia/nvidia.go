// Package nvidia says what of NVIDIA's the node has, and whether gVisor can use it: the
// version of the host's driver, the versions that nvproxy knows, device nodes, libraries,
// and GPUs that are partitioned. It reads; it changes nothing, and runs nothing but runsc.
//
// Doubt refuses: what cannot be read or understood is a finding like any other. The zero
// Node has no runsc and refuses. What is wrong with CDI specifications is for package lint,
// so that the shim, which checks before each sandbox with a GPU, links no parser of YAML.
package nvidia

import (
	"context"
	"fmt"
	"strings"

	"github.com/containerd/errdefs"
)

// Node is what a check looks at.
type Node struct {
	// DriverRoot is where the driver is installed; empty: /.
	DriverRoot string
	// Proc is the host's /proc, where the kernel module tells its version; empty: /proc.
	Proc string
	// Dev is the host's /dev, which runsc opens the driver in; empty: /dev.
	Dev string
	// Runsc is the path of the binary, which is asked for the versions that it knows.
	Runsc string
	// SpecDirs hold CDI specifications, the later ones first in rank.
	SpecDirs []string
	// Minors are the GPUs that the check is made for, by the N of /dev/nvidiaN; each must be
	// in order. Empty: any, so that one is enough.
	Minors []int
}

// Finding is one thing that is not as it should be.
type Finding struct {
	// Subject is what it is about: driver, gVisor, devices, libraries, MIG, or the path of
	// a CDI specification.
	Subject string `json:"subject"`
	Problem string `json:"problem"`
	// Remedy says what to do.
	Remedy string `json:"remedy"`
	// Refuses says that no sandbox gets a GPU until that is done. Otherwise brig can do
	// with it, and others may not.
	Refuses bool `json:"refuses"`
}

// String is one line.
func (f Finding) String() string { return f.Subject + ": " + f.Problem + ": " + f.Remedy }

// Check is an ErrFailedPrecondition unless sandboxes of n can have GPUs: one line for each
// reason why they cannot. It takes some system calls and, for the first time in a process,
// a start of runsc.
func Check(ctx context.Context, n Node) error {
	var lines []string
	for _, f := range Examine(ctx, n) {
		if f.Refuses {
			lines = append(lines, f.String())
		}
	}
	if len(lines) == 0 {
		return nil
	}
	return errdefs.ErrFailedPrecondition.WithMessage("sandboxes cannot have GPUs here: " + strings.Join(lines, "\n"))
}

// Examine is everything that is not as it should be, in a fixed order. Without a driver
// that is all there is to say.
func Examine(ctx context.Context, n Node) []Finding {
	n = n.defaults()
	driver, err := Driver(n.Proc)
	if err != nil {
		return []Finding{n.noDriver(err)}
	}
	var found []Finding
	found = append(found, supported(ctx, n.Runsc, driver)...)
	found = append(found, n.devices()...)
	found = append(found, n.libraries(driver)...)
	return append(found, n.each()...)
}

func (n Node) defaults() Node {
	for value, standard := range map[*string]string{&n.DriverRoot: "/", &n.Proc: "/proc", &n.Dev: "/dev"} {
		if *value == "" {
			*value = standard
		}
	}
	return n
}

func (n Node) noDriver(err error) Finding {
	f := Finding{Subject: "driver", Problem: err.Error(), Remedy: "look at the kernel's log, and load the module nvidia", Refuses: true}
	switch {
	case !errdefs.IsNotFound(err):
	case Hardware(n.Proc):
		f.Problem, f.Remedy = "NVIDIA's hardware is there and its kernel module is not loaded", "install NVIDIA's driver, or load it: modprobe nvidia nvidia-uvm"
	default:
		f.Problem, f.Remedy = "this node has no NVIDIA GPU", "ask for sandboxes without one, or use a node that has one"
	}
	return f
}

// supported compares the driver's version with those that gVisor knows.
func supported(ctx context.Context, runsc string, driver Version) []Finding {
	known, err := Supported(ctx, runsc)
	if err != nil {
		return []Finding{{Subject: "gVisor", Problem: err.Error(), Remedy: "put brig's own runsc at runsc.path", Refuses: true}}
	}
	var branch, all []string
	for _, v := range known {
		if v.Equal(driver) {
			return nil
		}
		if all = append(all, v.String()); v.Branch() == driver.Branch() {
			branch = append(branch, v.String())
		}
	}
	if len(branch) > 0 {
		all = branch
	}
	return []Finding{{
		Subject: "driver", Problem: fmt.Sprintf("gVisor does not know version %s of NVIDIA's driver", driver),
		Remedy: "install one that it knows: " + strings.Join(all, ", "), Refuses: true,
	}}
}
