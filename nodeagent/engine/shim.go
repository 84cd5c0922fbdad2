package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// shimProgram is what containerd makes of the runtime's name.
const shimProgram = "containerd-shim-brig-v1"

// shim is a process of containerd's runtime: the one that serves a sandbox, or one that
// starts or clears away such a one.
type shim struct {
	pid    int
	handle int      // a pidfd, which never means another process
	exe    *os.File // its program, which may be replaced on disk
	env    []string
	args   []string
	bundle string // containerd's folder of the sandbox; it may be gone
}

// findShim finds a shim of the sandbox by what containerd gives it on its command line; nil
// if there is none. It must be closed.
func findShim(namespace, id string) (*shim, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("look for shims: %w", err)
	}
	for _, p := range entries {
		pid, err := strconv.Atoi(p.Name())
		if err != nil || !isShim(argsOf(pid), namespace, id) {
			continue
		}
		if s, err := openShim(pid, namespace, id); s != nil || err != nil {
			return s, err
		}
	}
	return nil, nil
}

// argsOf a process; none if it has ended, or is the kernel's.
func argsOf(pid int) []string {
	line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	return strings.Split(strings.TrimSuffix(string(line), "\x00"), "\x00")
}

func isShim(args []string, namespace, id string) bool {
	return valueOf(args, "-id") == id && valueOf(args, "-namespace") == namespace && valueOf(args, "-address") != ""
}

func valueOf(args []string, flag string) string {
	if i := slices.Index(args, flag); i >= 0 && i+1 < len(args) {
		return args[i+1]
	}
	return ""
}

// openShim takes hold of a process and looks again; nil if it has ended, or is no shim. All
// that is read of it is its own if it lives afterwards: its pid was nobody else's then.
func openShim(pid int, namespace, id string) (_ *shim, err error) {
	handle, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil, nil
	} else if err != nil {
		return nil, fmt.Errorf("take hold of shim %d: %w", pid, err)
	}
	s := &shim{pid: pid, handle: handle, args: argsOf(pid)}
	ours, err := s.read()
	if s.signal(0) != nil || err == nil && !ours || !isShim(s.args, namespace, id) {
		s.close()
		return nil, nil
	}
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESRCH) {
		s.close()
		return nil, nil // it is ending: its memory is gone, and with it what it held
	}
	if err != nil {
		s.close()
		return nil, fmt.Errorf("look at shim %d of %s: %w", pid, id, err)
	}
	return s, nil
}

// read tells whether the process is a shim of this node, and reads the rest of it if so.
func (s *shim) read() (ours bool, err error) {
	dir := fmt.Sprintf("/proc/%d", s.pid)
	if ours, err = isOurs(dir); err != nil || !ours {
		return ours, err
	}
	if s.bundle, err = bundleOf(s.args, dir); err != nil {
		return true, err
	}
	env, err := os.ReadFile(dir + "/environ")
	if err != nil {
		return true, err
	}
	s.env = strings.Split(strings.TrimSuffix(string(env), "\x00"), "\x00")
	s.exe, err = os.OpenFile(dir+"/exe", unix.O_PATH, 0)
	return true, err
}

// bundleOf a shim: a verb is told, all others run in it.
func bundleOf(args []string, dir string) (string, error) {
	if path := valueOf(args, "-bundle"); path != "" {
		return path, nil
	}
	path, err := os.Readlink(dir + "/cwd")
	// A bundle that containerd was removing has another name.
	return filepath.Join(filepath.Dir(path), valueOf(args, "-id")), err
}

// isOurs tells whether a process is what root on this node has started as a shim. Anybody
// may give theirs a shim's command line, or, where they are root of a container, its name;
// and what it says of itself is about to be run and removed.
func isOurs(dir string) (bool, error) {
	if own, err := isOwnUsers(dir); err != nil || !own {
		return false, err
	}
	exe, err := os.Readlink(dir + "/exe")
	if err != nil || strings.TrimSuffix(filepath.Base(exe), " (deleted)") != shimProgram { // by an upgrade
		return false, err
	}
	own, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		return false, err
	}
	if its, err := os.Readlink(dir + "/ns/pid"); err != nil || its != own {
		return false, err
	}
	return true, nil
}

// isOwnUsers tells whether a process runs as brigd's user in every respect: the one that
// /proc shows as its owner may have got there by a set-user-ID program.
func isOwnUsers(dir string) (bool, error) {
	status, err := os.ReadFile(dir + "/status")
	if err != nil {
		return false, err
	}
	own := strconv.Itoa(os.Geteuid())
	for line := range strings.Lines(string(status)) {
		if ids, ok := strings.CutPrefix(line, "Uid:"); ok {
			return !slices.ContainsFunc(strings.Fields(ids), func(id string) bool { return id != own }), nil
		}
	}
	return false, fmt.Errorf("%s/status names no user", dir)
}

func (s *shim) close() {
	_ = unix.Close(s.handle)
	_ = s.exe.Close()
}

func (s *shim) signal(sig unix.Signal) error {
	return unix.PidfdSendSignal(s.handle, sig, nil, 0)
}

// end does what containerd does with a shim that it has lost: it has the runtime's delete
// verb end the shim and clear away what that one held, and removes the bundle. What has
// failed is tried again until shimWait is over.
func (s *shim) end(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, shimWait)
	defer cancel()
	for {
		err := s.clear(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("end shim %d, which has no task: %w (%w)", s.pid, err, errdefs.ErrUnavailable)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func (s *shim) clear(ctx context.Context) error {
	if err := s.runDelete(ctx); err != nil {
		return err
	}
	// The verb leaves a shim alone whose task was deleted in order, and what is no server.
	for _, sig := range []unix.Signal{unix.SIGTERM, unix.SIGKILL} {
		if err := s.signal(sig); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("signal %d: %w", sig, err)
		}
		if s.hasEnded(time.Second) {
			return removeBundle(s.bundle)
		}
	}
	return errors.New("it outlives SIGKILL")
}

func (s *shim) hasEnded(within time.Duration) bool {
	n, _ := unix.Poll([]unix.PollFd{{Fd: int32(s.handle), Events: unix.POLLIN}}, int(within.Milliseconds()))
	return n > 0
}

// runDelete runs the verb with the shim's own program and environment. It succeeds also
// when something is left, and says what.
func (s *shim) runDelete(ctx context.Context) error {
	var said bytes.Buffer
	cmd := exec.CommandContext(ctx, fmt.Sprintf("/proc/self/fd/%d", 3), // where ExtraFiles begin
		"-namespace", valueOf(s.args, "-namespace"), "-address", valueOf(s.args, "-address"),
		"-id", valueOf(s.args, "-id"), "-bundle", s.bundle, "delete")
	cmd.Args[0] = shimProgram
	cmd.Dir, cmd.Env, cmd.Stderr, cmd.ExtraFiles = "/", s.env, &said, []*os.File{s.exe}
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("run the delete verb: %w: %s", err, bytes.TrimSpace(said.Bytes()))
	}
	if said.Len() > 0 {
		return fmt.Errorf("the delete verb: %s", bytes.TrimSpace(said.Bytes()))
	}
	return nil
}

// removeBundle removes containerd's folders of a sandbox, but never what a root filesystem
// that is still mounted leads to.
func removeBundle(path string) error {
	err := os.Remove(filepath.Join(path, "rootfs"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	work, err := os.Readlink(filepath.Join(path, "work"))
	if err == nil {
		err = os.RemoveAll(work)
	} else if errors.Is(err, os.ErrNotExist) {
		err = nil
	}
	return errors.Join(err, os.RemoveAll(path))
}
