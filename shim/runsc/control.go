package runsc

import (
	"context"
	"os"

	"golang.org/x/sys/unix"
)

// The argument structs below are gVisor's, declared anew because gVisor's own do
// not compile with this containerd. A test drives the pinned runsc with them.

// Exec starts a process in a running container with stdin, stdout and stderr, and
// returns its pid inside the sandbox. The files may be closed afterwards.
func (c *Control) Exec(ctx context.Context, args ExecArgs, stdio [3]*os.File) (pid int32, err error) {
	args.GuestFDs = []int{0, 1, 2}
	err = c.call(ctx, "containerManager.ExecuteAsync", &args, &pid, stdio[:]...)
	return pid, err
}

// Wait blocks until the first process of a started container ends. The root
// container's ends with the sentry, which may not live to tell.
func (c *Control) Wait(ctx context.Context, container string) (unix.WaitStatus, error) {
	var status uint32
	err := c.call(ctx, "containerManager.Wait", &container, &status)
	return unix.WaitStatus(status), err
}

type waitPIDArgs struct {
	PID int32
	CID string
}

// WaitPID blocks until a process started by Exec ends.
func (c *Control) WaitPID(ctx context.Context, id string, pid int32) (unix.WaitStatus, error) {
	var status uint32
	err := c.call(ctx, "containerManager.WaitPID", &waitPIDArgs{PID: pid, CID: id}, &status)
	return unix.WaitStatus(status), err
}

// Target of a signal within a container.
type Target int

// The values are gVisor's SignalDeliveryMode.
const (
	Process    Target = 0 // one process; pid 0 is the container's first
	All        Target = 1 // every process of the container; pid must be 0
	Foreground Target = 2 // the foreground group of that process's terminal
)

type signalArgs struct {
	CID   string
	Signo int32
	PID   int32
	Mode  int
}

// Signal delivers sig.
func (c *Control) Signal(ctx context.Context, id string, pid int32, sig unix.Signal, to Target) error {
	return c.call(ctx, "containerManager.Signal",
		&signalArgs{CID: id, Signo: int32(sig), PID: pid, Mode: int(to)}, nil)
}

// Pause freezes every process of the sandbox.
func (c *Control) Pause(ctx context.Context) error {
	return c.call(ctx, "containerManager.Pause", nil, nil)
}

// Resume thaws it.
func (c *Control) Resume(ctx context.Context) error {
	return c.call(ctx, "containerManager.Resume", nil, nil)
}
