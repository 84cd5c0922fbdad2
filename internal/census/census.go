// Package census reads from the kernel what programs hold on a machine: processes,
// mounts, control groups. It tells what there is, not whose it is; that is for its
// callers, brig's own check of a node and the tests' of the machine.
package census

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Process that runs.
type Process struct {
	PID  int
	UID  uint32
	Exe  string // path of the program, "" if it may not be known
	Args []string
}

// Class is the name of the program.
func (p Process) Class() string { return filepath.Base(strings.TrimSuffix(p.Exe, " (deleted)")) }

// Processes are all of them but zombies and the kernel's own.
func Processes() ([]Process, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	var all []Process
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		dir := filepath.Join("/proc", e.Name())
		// Of one that ends meanwhile nothing can be read; a zombie has no command line.
		exe, _ := os.Readlink(filepath.Join(dir, "exe"))
		line, _ := os.ReadFile(filepath.Join(dir, "cmdline"))
		var st unix.Stat_t
		if len(line) == 0 || unix.Stat(dir, &st) != nil {
			continue
		}
		all = append(all, Process{pid, st.Uid, exe, strings.Split(strings.TrimRight(string(line), "\x00"), "\x00")})
	}
	return all, nil
}

// Mount of the process's namespace.
type Mount struct{ Path, Kind string }

// Mounts are all of them.
func Mounts() ([]Mount, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("list mounts: %w", err)
	}
	defer f.Close()
	var all []Mount
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20) // an overlay of many layers has a long line
	for lines.Scan() {
		// 36 35 98:0 /root /mount/point options … - type source options
		fields := strings.Fields(lines.Text())
		if dash := slices.Index(fields, "-"); dash >= 5 && dash+1 < len(fields) {
			all = append(all, Mount{fields[4], fields[dash+1]})
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("list mounts: %w", err)
	}
	return all, nil
}

// CgroupRoot is where the hierarchies are mounted, or the only one.
const CgroupRoot = "/sys/fs/cgroup"

// Cgroups calls visit for every control group, by its path below CgroupRoot, until visit
// says not to go below one.
func Cgroups(visit func(path string) (below bool)) error {
	err := filepath.WalkDir(CgroupRoot, func(path string, d fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil // it went meanwhile
		case err != nil:
			return err
		case d.IsDir() && !visit(strings.TrimPrefix(path, CgroupRoot)):
			return fs.SkipDir
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("list control groups: %w", err)
	}
	return nil
}
