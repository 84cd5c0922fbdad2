// Command edit FOLDER makes, in that folder, what runsc is built of: a copy of the gVisor that
// go.mod pins, with one edit, and a go.mod for `go build -modfile` that leads there. The edit
// must fit exactly once, or there is no build.
//
// The edit lets the program decide how a process in namespaces is started, once: gVisor
// offers nothing at that place (docs/design/0013-gofers-that-wait.md). -overlay, which would
// do without a copy, is not for files of the module cache.
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

const (
	edited = "runsc/specutils/namespace.go"

	before = `
func StartInNS(cmd *exec.Cmd, nss []specs.LinuxNamespace) error {
`
	after = `
// InPlaceOfStart is called, once, in place of the next StartInNS.
var InPlaceOfStart func(cmd *exec.Cmd, nss []specs.LinuxNamespace) error

func StartInNS(cmd *exec.Cmd, nss []specs.LinuxNamespace) error {
	if start := InPlaceOfStart; start != nil {
		InPlaceOfStart = nil
		return start(cmd, nss)
	}
`
)

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
	if err := editFile(filepath.Join(target, edited)); err != nil {
		return err
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

func editFile(path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if n := strings.Count(string(text), before); n != 1 {
		return fmt.Errorf("%s of this gVisor holds the line to edit %d times, want once: %s", edited, n, strings.TrimSpace(before))
	}
	if err := os.Remove(path); err != nil { // as read-only as in the module cache
		return err
	}
	return os.WriteFile(path, []byte(strings.Replace(string(text), before, after, 1)), 0o644)
}
