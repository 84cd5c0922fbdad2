package runsc

import (
	"context"
	"fmt"
	"os"
	"os/exec"

	"golang.org/x/sys/unix"
)

// Starter starts the root container that Boot has created. It is the runsc that
// created it, which stays for that: loading runsc once more would be a tenth of a cold
// start. While it lives it is the sentry's parent, so nobody else can wait for the
// sentry before Gone; it ends with the start, with Release, and with the sentry.
type Starter struct {
	runsc      *Runsc
	id, bundle string
	stdio      *[3]*os.File // of a container that joins
	socket     *os.File     // runsc's other end is descriptor startFD
	process    *os.Process
	gone       chan struct{}
	failure    *Failure // of runsc; valid once gone is closed
}

const startFD = 3

// Boot is Create for the sandbox's root container, by a runsc that was loaded early if there
// is one. Where runsc is not of brig's build it does not stay, and Start executes it again.
func (r *Runsc) Boot(ctx context.Context, early *Early, id string, o CreateOptions) (_ *Starter, err error) {
	if err := r.check("create"); err != nil {
		early.Release()
		return nil, err
	}
	_ = os.Remove(logPath(o.Bundle, "create"))
	cmd, ours, err := r.launch(ctx, r.command(context.WithoutCancel(ctx), o.Bundle, "create", id, o.args()...), early, o.Stdio)
	if err != nil {
		_ = os.Remove(r.Root)
		return nil, fmt.Errorf("runsc create: %w", err)
	}
	s := &Starter{runsc: r, id: id, bundle: o.Bundle, socket: ours, gone: make(chan struct{})}
	s.process = cmd.Process
	stop := s.killAfter(ctx)
	defer stop()
	go s.wait(cmd)
	if n, _ := ours.Read(make([]byte, 1)); n == 1 {
		return s, nil
	}
	<-s.gone // it has not stayed, because it has failed or cannot
	if s.failure == nil {
		return s, nil
	}
	ours.Close()
	_ = os.Remove(r.Root) // if it is empty, nothing was made that Delete would have to find
	if ctx.Err() != nil {
		s.failure.Err = fmt.Errorf("%w: %w", context.Cause(ctx), s.failure.Err)
	}
	return nil, s.failure
}

// wait keeps runsc's log while runsc lives: what matters of it is in the error.
func (s *Starter) wait(cmd *exec.Cmd) {
	defer close(s.gone)
	path := logPath(s.bundle, "create")
	defer os.Remove(path)
	if err := cmd.Wait(); err != nil {
		s.failure = newFailure("create", s.id, err, readTail(path), "")
	}
}

// Start starts the program, unless ctx ends before.
func (s *Starter) Start(ctx context.Context) error {
	defer s.socket.Close()
	if _, err := s.socket.Write([]byte{0}); err != nil {
		return s.runsc.Start(ctx, s.id, s.bundle, s.stdio)
	}
	stop := s.killAfter(ctx)
	defer stop()
	if n, _ := s.socket.Read(make([]byte, 1)); n == 1 {
		return nil // and it ends by itself
	}
	<-s.gone
	if s.failure == nil {
		return nil
	}
	s.failure.Op = "start"
	return s.failure
}

func (s *Starter) killAfter(ctx context.Context) (stop func() bool) {
	return context.AfterFunc(ctx, func() { _ = s.process.Kill() }) // an error means that it has ended
}

// Release ends runsc without a start, and frees what is left of one that has ended.
func (s *Starter) Release() {
	s.socket.Close()
	<-s.gone
}

// Gone is closed when runsc has ended.
func (s *Starter) Gone() <-chan struct{} { return s.gone }

// socketPair returns an end for the runtime's poller and one to hand down.
func socketPair() (ours, theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	if err := unix.SetNonblock(fds[0], true); err != nil {
		unix.Close(fds[0])
		unix.Close(fds[1])
		return nil, nil, err
	}
	return os.NewFile(uintptr(fds[0]), "runsc"), os.NewFile(uintptr(fds[1]), "shim"), nil
}
