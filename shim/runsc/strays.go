package runsc

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// strayTime is how long what was killed may take to end.
const strayTime = time.Second

// KillStrays kills every process that runsc was, or has started, for a bundle, and waits
// for its end: one that was killed half-way had no state yet that delete could find, one
// that hangs will not end. All of them have the bundle's path in an argument. It looks
// again until there is none, for one that is about to be killed may start another.
func KillStrays(bundle string) error {
	killed := make(map[int]bool)
	for {
		pids, err := strays(bundle, killed)
		if err != nil || len(pids) == 0 {
			return err
		}
		deadline := time.Now().Add(strayTime)
		for _, pid := range pids {
			killed[pid] = true
			if err := kill(pid, deadline); err != nil {
				return fmt.Errorf("kill what runsc left: %w", err)
			}
		}
	}
}

// strays are the processes of a bundle but for those known.
func strays(bundle string, known map[int]bool) (pids []int, err error) {
	lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return nil, err
	}
	for _, path := range lines {
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err != nil || known[pid] {
			continue
		}
		if cmdline, err := os.ReadFile(path); err == nil && isOf(cmdline, bundle) { // an error: it has ended
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// kill waits until deadline for the end, and collects a child: runsc, whose child it was,
// has ended, so it is nobody else's to collect.
func kill(pid int, deadline time.Time) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	} else if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return err
	}
	for {
		left := max(0, time.Until(deadline))
		_, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(left.Milliseconds()))
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	_, _ = unix.Wait4(pid, nil, unix.WNOHANG, nil)
	return nil
}

// isOf tells that an argument is the bundle's path, or the path of something in it, which
// may be the value of a flag.
func isOf(cmdline []byte, bundle string) bool {
	for arg := range bytes.SplitSeq(cmdline, []byte{0}) {
		if bytes.HasPrefix(arg, []byte("-")) {
			_, arg, _ = bytes.Cut(arg, []byte("="))
		}
		if rest, ok := bytes.CutPrefix(arg, []byte(bundle)); ok && (len(rest) == 0 || rest[0] == '/') {
			return true
		}
	}
	return false
}
