package runsc

import (
	"context"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// The argument structs below are gVisor's, declared anew because gVisor's own do
// not compile with this containerd. A test drives the pinned runsc with them.

// Exec starts a process in a running container with stdin, stdout and stderr, and
// returns its pid inside the sandbox. The files may be closed afterwards.
func (c *Control) Exec(ctx context.Context, args ExecArgs, stdio [3]*os.File) (pid int32, err error) {
	pid, line, err := c.ExecLine(ctx, args, stdio)
	if err == nil {
		line.Close()
	}
	return pid, err
}

// ExecLine is Exec for a caller who waits for the process next, on the same line. It is the
// caller's to close.
func (c *Control) ExecLine(ctx context.Context, args ExecArgs, stdio [3]*os.File) (pid int32, line *Line, err error) {
	const method = "containerManager.ExecuteAsync"
	args.GuestFDs = []int{0, 1, 2}
	if line, err = c.line(ctx); err != nil {
		return 0, nil, fmt.Errorf("call %s: %w", method, err)
	}
	if err = line.call(ctx, method, &args, &pid, stdio[:]...); err != nil {
		line.Close()
		return 0, nil, err
	}
	return pid, line, nil
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
	err := c.call(ctx, waitPID, &waitPIDArgs{PID: pid, CID: id}, &status)
	return unix.WaitStatus(status), err
}

// WaitPID is Control's, on this line.
func (l *Line) WaitPID(ctx context.Context, id string, pid int32) (unix.WaitStatus, error) {
	var status uint32
	err := l.call(ctx, waitPID, &waitPIDArgs{PID: pid, CID: id}, &status)
	return unix.WaitStatus(status), err
}

const waitPID = "containerManager.WaitPID"

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
