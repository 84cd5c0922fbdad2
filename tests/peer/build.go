package peer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// The one edit: the shim refuses to start where it may not lower its OOM score, which
// only root with CAP_SYS_RESOURCE may. The score is still asked for.
const (
	edited = "pkg/shim/v1/manager.go"
	before = `return shim.BootstrapParams{}, fmt.Errorf("failed to set OOM Score on shim: %w", err)`
	after  = `_ = err`
)

// Program is the name of the shim's binary.
const Program = "containerd-shim-runsc-v1"

// Build makes the shim in dir and returns its path. It takes a minute or more.
func Build(ctx context.Context, dir string, progress io.Writer) (string, error) {
	return build(ctx, dir, progress, true)
}

// BuildUnedited makes the shim as it is.
func BuildUnedited(ctx context.Context, dir string, progress io.Writer) (string, error) {
	return build(ctx, dir, progress, false)
}

func build(ctx context.Context, dir string, progress io.Writer, edit bool) (string, error) {
	source := filepath.Join(dir, "gvisor")
	defer os.RemoveAll(source)
	module, err := module(ctx)
	if err != nil {
		return "", err
	}
	if err := os.CopyFS(source, os.DirFS(module)); err != nil {
		return "", fmt.Errorf("copy gVisor's module: %w", err)
	}
	if edit {
		if err := editFile(filepath.Join(source, edited)); err != nil {
			return "", err
		}
		fmt.Fprintf(progress, "build the shim of %s with %s edited:\n-\t%s\n+\t%s\n", filepath.Base(module), edited, before, after)
	}
	program := filepath.Join(dir, Program)
	// As brig's own: static and stripped.
	_, err = goOutput(ctx, source, "build", "-trimpath", "-ldflags", "-s -w", "-o", program, "./shim")
	return program, err
}

// module is the folder of the gVisor that tools/runsc pins, in the module cache.
func module(ctx context.Context) (string, error) {
	root, err := goOutput(ctx, ".", "list", "-m", "-f", "{{.Dir}}", "brig")
	if err != nil {
		return "", err
	}
	dir, err := goOutput(ctx, filepath.Join(root, "tools", "runsc"), "list", "-m", "-f", "{{.Dir}}", "gvisor.dev/gvisor")
	if err == nil && dir == "" {
		err = errors.New("gVisor's module is not in the module cache: run `make deps`")
	}
	return dir, err
}

func editFile(path string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if bytes.Count(data, []byte(before)) != 1 {
		return fmt.Errorf("%s of this gVisor does not hold the line to edit once: %s", edited, before)
	}
	// A new file: those of the module cache are read-only, and so are their copies.
	if err := os.Remove(path); err != nil {
		return err
	}
	return os.WriteFile(path, bytes.Replace(data, []byte(before), []byte(after), 1), 0o644)
}

func goOutput(ctx context.Context, dir string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("go %s in %s: %w\n%s", args[0], dir, err, &stderr)
	}
	return strings.TrimSpace(string(out)), nil
}
