// Package cgroup reads what the host's cgroups say about one sandbox. All processes
// of a sandbox (its kernel, its gofer, its stubs) are in one cgroup, which runsc
// makes and removes; this package only looks, on cgroup v1, v2 and a mixture.
package cgroup

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Group is where a sandbox's memory is accounted.
type Group struct {
	memory  string // folder of the memory controller
	unified bool
}

// Of finds the group of a process. It must be asked while the process lives.
func Of(pid int) (Group, error) {
	membership, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		return Group{}, fmt.Errorf("find cgroup: %w", err)
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return Group{}, fmt.Errorf("find cgroup: %w", err)
	}
	g, err := find(string(membership), string(mounts))
	if err != nil {
		return Group{}, fmt.Errorf("find cgroup of process %d: %w", pid, err)
	}
	return g, nil
}

// find prefers the memory controller of v1: where there is one, v2 has none.
func find(membership, mountinfo string) (Group, error) {
	var v1, v2 string
	for line := range strings.Lines(membership) {
		fields := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		if len(fields) != 3 {
			continue
		}
		switch {
		case hasOption(fields[1], "memory"):
			v1 = fields[2]
		case fields[0] == "0" && fields[1] == "":
			v2 = fields[2]
		}
	}
	if v1 != "" {
		dir, err := mountpoint(mountinfo, v1, func(fstype, options string) bool { return fstype == "cgroup" && hasOption(options, "memory") })
		return Group{memory: dir}, err
	}
	dir, err := mountpoint(mountinfo, v2, func(fstype, _ string) bool { return fstype == "cgroup2" })
	return Group{memory: dir, unified: true}, err
}

var errNoMount = errors.New("no mount of the memory controller")

// mountpoint translates a path within a hierarchy into one of the file system.
func mountpoint(mountinfo, path string, match func(fstype, options string) bool) (string, error) {
	for line := range strings.Lines(mountinfo) {
		mount, super, ok := strings.Cut(strings.TrimSpace(line), " - ")
		a, b := strings.Fields(mount), strings.Fields(super)
		if !ok || len(a) < 5 || len(b) < 3 || !match(b[0], b[2]) {
			continue
		}
		if rel, err := filepath.Rel(a[3], path); err == nil && !strings.HasPrefix(rel, "..") {
			return filepath.Join(a[4], rel), nil
		}
	}
	return "", errNoMount
}

func hasOption(list, want string) bool {
	for option := range strings.SplitSeq(list, ",") {
		if option == want {
			return true
		}
	}
	return false
}

// OOMKills is how many processes of the group the kernel has killed because the
// group had reached its memory limit.
func (g Group) OOMKills() (int, error) {
	file := "memory.oom_control"
	if g.unified {
		file = "memory.events"
	}
	f, err := os.Open(filepath.Join(g.memory, file))
	if err != nil {
		return 0, fmt.Errorf("count OOM kills: %w", err)
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if key, value, _ := strings.Cut(s.Text(), " "); key == "oom_kill" {
			return strconv.Atoi(value)
		}
	}
	return 0, fmt.Errorf("count OOM kills: no oom_kill in %s", f.Name())
}

// DieTogether makes the kernel kill the whole sandbox rather than one process of it
// where it can (cgroup v2). The sandbox's kernel and its stubs share their memory,
// so none of them is of use without the others.
func (g Group) DieTogether() error {
	if !g.unified {
		return nil
	}
	return os.WriteFile(filepath.Join(g.memory, "memory.oom.group"), []byte("1"), 0)
}
