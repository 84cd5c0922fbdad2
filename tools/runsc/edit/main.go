// Command edit FOLDER makes, in that folder, what runsc is built of: a copy of the gVisor that
// go.mod pins, with the edits below, and a go.mod for `go build -modfile` that leads there. Each
// must fit as often as it says, or there is no build. -overlay, which would do without a copy,
// is not for files of the module cache.
//
// They let the program decide how a process in namespaces is started, once
// (docs/design/0013-gofers-that-wait.md), and by which file and on which thread it moves to a
// group of cgroup v1 (docs/design/0014-groups-by-thread.md). gVisor offers nothing at these
// places; as long as nobody uses what is added, it does what it did.
package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

const module = "gvisor.dev/gvisor"

// edit of a file of gVisor's: every before becomes after.
type edit struct {
	file          string
	before, after string
	times         int
}

var edits = []edit{
	{
		file: "runsc/specutils/namespace.go",
		before: `
func StartInNS(cmd *exec.Cmd, nss []specs.LinuxNamespace) error {
`,
		after: `
// InPlaceOfStart is called, once, in place of the next StartInNS.
var InPlaceOfStart func(cmd *exec.Cmd, nss []specs.LinuxNamespace) error

// OnItsThread has StartInNS start processes on its caller's thread, to which that is locked.
var OnItsThread bool

func StartInNS(cmd *exec.Cmd, nss []specs.LinuxNamespace) error {
	if start := InPlaceOfStart; start != nil {
		InPlaceOfStart = nil
		return start(cmd, nss)
	}
	if OnItsThread {
		back, err := startInNS(cmd, nss)
		for _, restore := range back {
			if failed := restore(); failed != nil {
				if err == nil {
					_ = cmd.Process.Kill() // nobody else would find it
				}
				err = failed
			}
		}
		return err
	}
`,
		times: 1,
	},
	{
		file:   "runsc/cgroup/cgroup.go",
		before: `setValue(path, "cgroup.procs", "0")`,
		after:  `setValue(path, JoinFile, "0")`,
		times:  2,
	},
	{
		file: "runsc/cgroup/cgroup.go",
		before: `
	cgroupRootInternal string
`,
		after: `
	// JoinFile is the file by which Join moves its caller, on cgroup v1: the process, or by
	// "tasks" the thread.
	JoinFile = "cgroup.procs"

	cgroupRootInternal string
`,
		times: 1,
	},
}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: edit FOLDER")
		os.Exit(2)
	}
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "edit:", err)
		os.Exit(1)
	}
}

func run(folder string) error {
	folder, err := filepath.Abs(folder)
	if err != nil {
		return err
	}
	source, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", module).Output()
	if err != nil {
		return fmt.Errorf("look for gVisor's module: %w", err)
	}
	target := filepath.Join(folder, "gvisor")
	if err := os.RemoveAll(target); err != nil {
		return err
	}
	if err := os.CopyFS(target, os.DirFS(strings.TrimSpace(string(source)))); err != nil {
		return fmt.Errorf("copy gVisor's module: %w", err)
	}
	for _, e := range edits {
		if err := e.apply(target); err != nil {
			return err
		}
	}
	mod, err := os.ReadFile("go.mod")
	if err != nil {
		return err
	}
	sum, err := os.ReadFile("go.sum")
	if err != nil {
		return err
	}
	mod = fmt.Appendf(mod, "\nreplace %s => %q\n", module, target)
	return errors.Join(
		os.WriteFile(filepath.Join(folder, "go.mod"), mod, 0o644),
		os.WriteFile(filepath.Join(folder, "go.sum"), sum, 0o644),
	)
}

func (e edit) apply(folder string) error {
	path := filepath.Join(folder, e.file)
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if n := strings.Count(string(text), e.before); n != e.times {
		return fmt.Errorf("%s of this gVisor holds what to edit %d times, want %d: %s", e.file, n, e.times, strings.TrimSpace(e.before))
	}
	if err := os.Remove(path); err != nil { // as read-only as in the module cache
		return err
	}
	return os.WriteFile(path, []byte(strings.ReplaceAll(string(text), e.before, e.after)), 0o644)
}
