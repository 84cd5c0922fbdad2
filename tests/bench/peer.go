package main

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

	runtimeoptions "github.com/containerd/containerd/api/types/runtimeoptions/v1"
)

// The one edit to gVisor's shim: it refuses to start where it may not lower its OOM
// score, which only root with CAP_SYS_RESOURCE may. The score is still asked for.
const (
	peerEdited = "pkg/shim/v1/manager.go"
	peerBefore = `return shim.BootstrapParams{}, fmt.Errorf("failed to set OOM Score on shim: %w", err)`
	peerAfter  = `_ = err`
)

// gvisorRuntime is gVisor's own shim with the runsc that ours has. The annotation
// keeps its create from hanging without a terminal: only a CRI sandbox gets the
// streams themselves, and any other one a pipe that nobody closes.
func (n *testNode) gvisorRuntime() (shimRuntime, error) {
	path := filepath.Join(n.dir, "gvisor-shim.toml")
	text := fmt.Sprintf("binary_name = %q\nroot = %q\n", filepath.Join(n.bin, "deps", "runsc"), filepath.Join(n.dir, "gvisor"))
	err := os.WriteFile(path, []byte(text), 0o600)
	return shimRuntime{
		name: "gVisor's shim", runtime: n.peer,
		options:     &runtimeoptions.Options{TypeUrl: "io.containerd.runsc.v1.options", ConfigPath: path},
		annotations: map[string]string{"io.kubernetes.cri.container-type": "sandbox"},
	}, err
}

// buildPeer makes gVisor's own shim in dir and returns its path. It is built from the
// module that tools/runsc pins, from a copy with one line edited.
func buildPeer(ctx context.Context, dir string, progress io.Writer) (string, error) {
	root, err := goOutput(ctx, ".", "list", "-m", "-f", "{{.Dir}}", "brig")
	if err != nil {
		return "", err
	}
	module, err := goOutput(ctx, filepath.Join(root, "tools", "runsc"), "list", "-m", "-f", "{{.Dir}}", "gvisor.dev/gvisor")
	if err != nil {
		return "", err
	}
	if module == "" {
		return "", errors.New("gVisor's module is not in the module cache: run `make deps`")
	}
	source := filepath.Join(dir, "gvisor")
	if err := os.CopyFS(source, os.DirFS(module)); err != nil {
		return "", fmt.Errorf("copy gVisor's module: %w", err)
	}
	defer os.RemoveAll(source)
	if err := editPeer(filepath.Join(source, peerEdited)); err != nil {
		return "", err
	}
	fmt.Fprintf(progress, "bench: build the shim of %s with %s edited:\n-\t%s\n+\t%s\n",
		filepath.Base(module), peerEdited, peerBefore, peerAfter)
	program := filepath.Join(dir, "containerd-shim-runsc-v1")
	// As brig's own: static and stripped.
	_, err = goOutput(ctx, source, "build", "-trimpath", "-ldflags", "-s -w", "-o", program, "./shim")
	return program, err
}

func editPeer(path string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if bytes.Count(data, []byte(peerBefore)) != 1 {
		return fmt.Errorf("%s of this gVisor does not hold the line to edit once: %s", peerEdited, peerBefore)
	}
	// A new file: those of the module cache are read-only, and so are their copies.
	if err := os.Remove(path); err != nil {
		return err
	}
	return os.WriteFile(path, bytes.Replace(data, []byte(peerBefore), []byte(peerAfter), 1), 0o644)
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
