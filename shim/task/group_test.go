package task

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"brig/shim/cgroup"

	"golang.org/x/sys/unix"
)

// TestEveryThreadIsInTheGroup: runsc moves one thread of its own into the sandbox's groups,
// and all that it starts is born there.
func TestEveryThreadIsInTheGroup(t *testing.T) {
	f := setUp(t, "/bin/sleep", "1000")
	f.must(f.create())
	f.must(f.start())
	pids := f.processes()
	if len(pids) < 2 { // a sentry and a gofer at least
		t.Fatalf("processes %v", pids)
	}
	for _, pid := range pids {
		tasks, err := filepath.Glob(filepath.Join("/proc", pid, "task", "*", "cgroup"))
		f.must(err)
		for _, path := range tasks {
			data, err := os.ReadFile(path)
			if err != nil { // it has ended
				continue
			}
			for line := range strings.Lines(string(data)) {
				of := strings.SplitN(strings.TrimSpace(line), ":", 3)
				if _, err := os.Stat(filepath.Join("/sys/fs/cgroup", strings.TrimPrefix(of[1], "name="), f.request.ID)); err != nil {
					continue // runsc has no group in this hierarchy
				}
				if of[2] != "/"+f.request.ID {
					t.Errorf("%s: in %s of %q", path, of[2], of[1])
				}
			}
		}
	}
	f.must(f.Kill(t.Context(), f.request.ID, "", unix.SIGKILL, false))
	f.wait("")
	f.must(f.remove())
}

// processes of the sandbox are those that name it in their arguments.
func (f *fixture) processes() (pids []string) {
	f.t.Helper()
	paths, err := filepath.Glob("/proc/[0-9]*/cmdline")
	f.must(err)
	for _, path := range paths {
		if text, err := os.ReadFile(path); err == nil && slices.Contains(strings.Split(string(text), "\x00"), f.request.ID) {
			pids = append(pids, filepath.Base(filepath.Dir(path)))
		}
	}
	return pids
}

// TestWithoutAGroupOfItsOwn: nothing would limit such a sandbox.
func TestWithoutAGroupOfItsOwn(t *testing.T) {
	f := setUp(t, "/bin/sleep", "1000")
	f.spoil(`set -- --ignore-cgroups "$@"`)
	if err := f.create(); err == nil || !strings.Contains(err.Error(), cgroup.ErrShared.Error()) {
		t.Error(fmt.Errorf("a sandbox in its maker's group: %w", err))
	}
}
