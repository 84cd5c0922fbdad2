package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"

	"github.com/google/subcommands"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/log"
	"gvisor.dev/gvisor/runsc/boot"
	"gvisor.dev/gvisor/runsc/cgroup"
	"gvisor.dev/gvisor/runsc/cmd/util"
	"gvisor.dev/gvisor/runsc/config"
	"gvisor.dev/gvisor/runsc/container"
	"gvisor.dev/gvisor/runsc/specutils"
)

// A start goes ahead of its word as far as the gofer: the program's is started, and has its
// mounts. What it then tells of them is what gVisor waits for before it calls the sentry, and
// that is kept back until the word has come. Without the word this process ends.

// goesAhead tells that the start of a container that joins will wait for what its gofer tells:
// it has one, which serves its root.
func goesAhead(c *container.Container) bool {
	hint, err := boot.NewRootfsHint(c.Spec)
	return waited && err == nil && hint == nil && !specutils.IsRootContainer(c.Spec)
}

// startAhead is gVisor's start, in the course of which the word comes.
func startAhead(c *container.Container, w word, conf *config.Config) subcommands.ExitStatus {
	group := c.Sandbox.CgroupJSON.Cgroup
	if group != nil {
		c.Sandbox.CgroupJSON.Cgroup = stayOut{group}
	}
	specutils.InPlaceOfStart = func(cmd *exec.Cmd, nss []specs.LinuxNamespace) error {
		c.Sandbox.CgroupJSON.Cgroup = group
		held, err := keepBack(cmd)
		if err != nil {
			return fmt.Errorf("keep the gofer's mounts back: %w", err)
		}
		defer held.theirs.Close()
		spare := takeSpare()
		if err := spare.become(cmd, nss, c.Spec); err != nil {
			log.Warningf("The gofer that waits is of no use: %v", err)
			spare.end()
			spare = nil
			if err := startIn(group, cmd, nss); err != nil {
				return err
			}
		}
		go held.pass(w, spare)
		return nil
	}
	if err := c.Start(conf); err != nil {
		util.Fatalf("starting container: %v", err)
	}
	started(w.socket)
	return subcommands.ExitSuccess
}

// stayOut is a group that gVisor does not move this process to, for the gofer to be in it: it
// is, or startIn sees to it.
type stayOut struct{ cgroup.Cgroup }

// CloneIntoCgroup has gVisor start the gofer where this process is.
func (stayOut) CloneIntoCgroup() (*os.File, error) { return nil, nil }

// startIn starts cmd in a group.
func startIn(group cgroup.Cgroup, cmd *exec.Cmd, nss []specs.LinuxNamespace) error {
	return cgroup.RunInCgroup(group, func(into *os.File) error {
		if into != nil {
			cmd.SysProcAttr.UseCgroupFD, cmd.SysProcAttr.CgroupFD = true, int(into.Fd())
		}
		return specutils.StartInNS(cmd, nss)
	})
}

// held are the mounts that a gofer tells of.
type held struct {
	ours, theirs *os.File // the gofer writes to the latter
	gVisors      *os.File // what gVisor reads the other end of
}

// keepBack puts a pipe of its own in the place of gVisor's among what the gofer is given.
func keepBack(cmd *exec.Cmd) (h held, err error) {
	number := descriptor(cmd, "mounts-fd")
	if number == 0 {
		return held{}, fmt.Errorf("%s is given no descriptor for them", cmd.Args[0])
	}
	file := &cmd.ExtraFiles[number-firstFD]
	kept, err := unix.FcntlInt((*file).Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return held{}, err
	}
	h.gVisors = os.NewFile(uintptr(kept), "mounts")
	if h.ours, h.theirs, err = os.Pipe(); err != nil {
		return held{}, err
	}
	*file = h.theirs
	return h, nil
}

// pass hands the mounts on when the word has come. The gofer that served in vain is waited
// for: whoever has no word may remove the group that it is in.
func (h held) pass(w word, spare *spare) {
	list, err := io.ReadAll(h.ours)
	told := false
	if err == nil {
		told, err = w.await()
	}
	switch {
	case err == nil && told:
		_, _ = h.gVisors.Write(list) // a failure leaves gVisor with none, which is an error there
		h.gVisors.Close()
	case err == nil:
		spare.end()
		os.Exit(0)
	default:
		spare.end()
		util.Fatalf("%v", err)
	}
}
