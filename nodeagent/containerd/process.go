package containerd

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// process is a containerd that was started, named so that another process which got
// its pid later is not taken for it.
type process struct {
	pid   int
	start string // ticks from boot, as the kernel writes them
}

// find reads the pid file; ok tells whether that process still lives.
func find(path string) (p process, ok bool) {
	data, err := os.ReadFile(path)
	if err != nil {
		return process{}, false
	}
	if _, err := fmt.Sscanf(string(data), "%d %s", &p.pid, &p.start); err != nil || p.pid <= 1 {
		return process{}, false
	}
	now, err := startOf(p.pid)
	return p, err == nil && now == p.start
}

func (p process) save(path string) error {
	tmp := path + ".new"
	if err := os.WriteFile(tmp, fmt.Appendf(nil, "%d %s\n", p.pid, p.start), 0o600); err != nil {
		return fmt.Errorf("write containerd's pid file: %w", err)
	}
	if err := os.Rename(tmp, path); err != nil {
		return fmt.Errorf("write containerd's pid file: %w", err)
	}
	return nil
}

func (p process) signal(s unix.Signal) error {
	if now, err := startOf(p.pid); err != nil || now != p.start {
		return nil // it has ended
	}
	if err := unix.Kill(p.pid, s); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("signal containerd: %w", err)
	}
	return nil
}

// startOf reads the start time of a process that is no zombie.
func startOf(pid int) (string, error) {
	data, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return "", err
	}
	// The program's name, in parentheses, may contain anything.
	fields := strings.Fields(string(data[strings.LastIndexByte(string(data), ')')+1:]))
	if len(fields) < 20 || fields[0] == "Z" {
		return "", errors.New("the process has ended")
	}
	return fields[19], nil
}
