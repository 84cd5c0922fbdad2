package runsc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// A restore ends with the sentry's asking the gofer of each container for its mounts, and
// no task runs before they are answered. So a gofer that stands still holds a restore, with
// all of the image loaded.

const (
	// haltTime is how long a process may take to stand still.
	haltTime = time.Second
	// glanceEvery is how often one that is waited for is looked at.
	glanceEvery = 2 * time.Millisecond
)

// Halted is a gofer that stands still. Close frees it.
type Halted struct {
	pid int

	had map[string]int // what lay unread in its sockets when it was stopped

	mu sync.Mutex
	fd int // of the process; -1 after Close
}

// HaltGofer stops the gofer of a container, and returns when none of its threads runs. The
// runsc that started it must have ended.
func HaltGofer(root, sandbox, container, bundle string) (*Halted, error) {
	h, err := findGofer(root, sandbox, container, bundle)
	if err != nil {
		return nil, fmt.Errorf("stop the gofer: %w", err)
	}
	err = h.halt()
	if err == nil {
		h.had, err = h.unread()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("stop the gofer: %w", err), h.Close())
	}
	return h, nil
}

func findGofer(root, sandbox, container, bundle string) (*Halted, error) {
	pid, err := goferPID(root, sandbox, container)
	if err != nil {
		return nil, err
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return nil, err
	}
	h := &Halted{pid: pid, fd: fd}
	// From here on the pid is that process's for as long as it is there.
	if cmdline, err := os.ReadFile(h.proc("cmdline")); err != nil || !isOf(cmdline, bundle) {
		return nil, errors.Join(err, fmt.Errorf("process %d is not of this sandbox", pid), h.Close())
	}
	return h, nil
}

func (h *Halted) proc(name string) string { return filepath.Join("/proc", strconv.Itoa(h.pid), name) }

func (h *Halted) halt() error {
	if err := h.signal(unix.SIGSTOP); err != nil {
		return err
	}
	for deadline := time.Now().Add(haltTime); ; time.Sleep(glanceEvery) {
		if still, err := h.still(); still || err != nil {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("process %d does not stand still", h.pid)
		}
	}
}

// still tells that every thread is stopped.
func (h *Halted) still() (bool, error) {
	threads, err := filepath.Glob(h.proc("task/[0-9]*/stat"))
	if err != nil || len(threads) == 0 {
		return false, errors.Join(err, os.ErrProcessDone)
	}
	for _, path := range threads {
		stat, err := os.ReadFile(path)
		if err != nil {
			return false, err
		}
		// The state follows the name, in which there may be parentheses.
		if _, state, _ := bytes.Cut(stat[max(0, bytes.LastIndexByte(stat, ')')):], []byte(" ")); !bytes.HasPrefix(state, []byte("T")) {
			return false, nil
		}
	}
	return true, nil
}

// Asked waits until more lies unread in one of its sockets than when it was stopped: the
// sentry has loaded the image and asks for its mounts.
func (h *Halted) Asked(ctx context.Context) error {
	for {
		now, err := h.unread()
		if err != nil {
			return err
		}
		for socket, n := range now {
			if n > h.had[socket] {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait until the checkpoint is loaded: %w", context.Cause(ctx))
		case <-time.After(glanceEvery):
		}
	}
}

func (h *Halted) unread() (map[string]int, error) {
	entries, err := os.ReadDir(h.proc("fd"))
	if err != nil {
		return nil, err
	}
	all := map[string]int{}
	for _, e := range entries {
		target, err := os.Readlink(filepath.Join(h.proc("fd"), e.Name()))
		if err != nil || !strings.HasPrefix(target, "socket:") {
			continue
		}
		number, err := strconv.Atoi(e.Name())
		if err != nil {
			return nil, err
		}
		if all[target], err = h.queued(number); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// queued is how much lies unread in a socket of the process's.
func (h *Halted) queued(number int) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	fd, err := unix.PidfdGetfd(h.fd, number, 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	n, err := unix.IoctlGetInt(fd, unix.TIOCINQ)
	if err != nil {
		return 0, nil // one that listens has nothing to read
	}
	return n, nil
}

// Continue lets it go on.
func (h *Halted) Continue() error {
	if err := h.signal(unix.SIGCONT); err != nil {
		return fmt.Errorf("let the gofer go on: %w", err)
	}
	return nil
}

// Kill ends it. One that has ended is no error.
func (h *Halted) Kill() error {
	if err := h.signal(unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("kill the gofer: %w", err)
	}
	return nil
}

func (h *Halted) signal(s unix.Signal) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return unix.PidfdSendSignal(h.fd, s, nil, 0)
}

// Close frees what it takes here. The process stays as it is.
func (h *Halted) Close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	fd := h.fd
	h.fd = -1
	return unix.Close(fd)
}
