package shim

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	containerd "github.com/containerd/containerd/v2/pkg/shim"
	"golang.org/x/sys/unix"
)

// serverArgs are the arguments of the process that serves a sandbox. They tell it from all
// others, those of the verbs and of other nodes included.
func serverArgs(namespace, id, address string) []string {
	return []string{"-namespace", namespace, "-id", id, "-address", address}
}

// serverTime is how long a server may take to end in order, and to remove its socket.
const serverTime = time.Second

// endServer ends the process that serves a sandbox, if it lives: containerd runs the
// delete verb for a shim that it has lost or given up, and nobody else would end it.
func (m manager) endServer(namespace, id string) error {
	args := []byte("\x00" + strings.Join(serverArgs(namespace, id, m.flags.address), "\x00") + "\x00")
	paths, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return err
	}
	var errs []error
	for _, path := range paths {
		cmdline, err := os.ReadFile(path)
		if err != nil || !bytes.Contains(cmdline, args) { // an error: it has ended
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err != nil {
			errs = append(errs, err)
			continue
		}
		socket := socketOf(pid)
		errs = append(errs, end(pid), removeDead(socket))
	}
	return errors.Join(errs...)
}

// socketOf a process is the address that it serves; empty if it has none. The bundle tells,
// too, but may be gone. The process's own descriptor is asked: the kernel's list of sockets
// leaves out some while others come and go.
func socketOf(pid int) string {
	process, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return ""
	}
	defer unix.Close(process)
	fd, err := unix.PidfdGetfd(process, servedFD, 0)
	if err != nil {
		return ""
	}
	defer unix.Close(fd)
	name, _ := unix.Getsockname(fd)
	if served, ok := name.(*unix.SockaddrUnix); ok && filepath.IsAbs(served.Name) {
		return "unix://" + served.Name
	}
	return ""
}

// removeDead leaves the socket of a living shim.
func removeDead(address string) error {
	if address == "" || containerd.CanConnect(address) {
		return nil
	}
	if err := containerd.RemoveSocket(address); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove a dead shim's socket: %w", err)
	}
	return nil
}

func end(pid int) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	} else if err != nil {
		return fmt.Errorf("end a lost shim: %w", err)
	}
	defer unix.Close(fd)
	for _, sig := range []unix.Signal{unix.SIGTERM, unix.SIGKILL} {
		if err := unix.PidfdSendSignal(fd, sig, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("end a lost shim: %w", err)
		}
		if n, _ := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(serverTime.Milliseconds())); n > 0 {
			return nil
		}
	}
	return fmt.Errorf("end a lost shim: process %d outlives SIGKILL", pid)
}

// servedSocket tells how to remove the socket that this process serves, whatever has become
// of the bundle by then; what the next shim of this sandbox's id has put in its place stays.
func servedSocket() (remove func(), err error) {
	name, err := unix.Getsockname(servedFD)
	if err != nil {
		return nil, fmt.Errorf("the socket to serve: %w", err)
	}
	path := ""
	if name, ok := name.(*unix.SockaddrUnix); ok {
		path = name.Name
	}
	own, err := os.Lstat(path)
	if err != nil {
		return nil, fmt.Errorf("the socket to serve: %w", err)
	}
	return func() {
		if now, err := os.Lstat(path); err == nil && os.SameFile(own, now) {
			_ = os.Remove(path)
		}
	}, nil
}

// servedFD is the socket that spawn hands down.
const servedFD = 3

// toldToEnd passes on the signals that tell a server to end, from its first moment on.
func toldToEnd() <-chan os.Signal {
	told := make(chan os.Signal, 1)
	signal.Notify(told, unix.SIGINT, unix.SIGTERM)
	return told
}

func endWhenTold(ctx context.Context, told <-chan os.Signal, end func()) {
	select {
	case <-told:
		end()
	case <-ctx.Done():
	}
}

const (
	// unusedTime is how long a shim without a sandbox stays. containerd asks for one at once,
	// and ends the shim that it has none for, unless it died in between.
	unusedTime = time.Minute
	// lookTime is how often a shim looks whether it is of use.
	lookTime = 5 * time.Second
)

// endUnused ends a shim that nobody uses, at once if nobody can: containerd removes the
// bundle of a shim whose start verb failed, or was killed when its caller went away.
func endUnused(ctx context.Context, unused, forgotten func() bool, end func()) {
	look := time.NewTicker(lookTime)
	defer look.Stop()
	for used := time.Now(); ; {
		select {
		case <-look.C:
		case <-ctx.Done():
			return
		}
		switch {
		case !unused():
			used = time.Now()
		case forgotten() || time.Since(used) >= unusedTime:
			end()
			return
		}
	}
}

// bundleIsGone tells that this process's folder was removed.
func bundleIsGone() bool {
	var st unix.Stat_t
	return unix.Stat(".", &st) == nil && st.Nlink == 0
}
