package lint

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestBuilt reads the version where NVIDIA's linker flags have put it, in a program that is
// never run.
func TestBuilt(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "nvidia-cdi-hook")
	if err := errors.Join(
		os.WriteFile(filepath.Join(dir, "go.mod"), []byte("module github.com/NVIDIA/nvidia-container-toolkit\n\ngo 1.26\n"), 0o600),
		os.WriteFile(filepath.Join(dir, "main.go"), []byte("package main\n\nvar version string\n\nfunc main() { println(version) }\n"), 0o600),
	); err != nil {
		t.Fatal(err)
	}
	for version, old := range map[string]bool{"1.17.8": true, "1.20.0": true, "1.20.1": false, "1.21.0-rc.1": false, "2.0.0": false} {
		build := exec.CommandContext(t.Context(), "go", "build", "-ldflags", "-s -w -X main.gitCommit=0 -X main.version="+version, "-o", program, ".")
		build.Dir = dir
		build.Env = append(os.Environ(), "GOFLAGS=", "GOWORK=off")
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		if got, isOld := oldToolkit(dir, program); isOld != old || got != strings.TrimSuffix(version, "-rc.1") {
			t.Errorf("%s: %q, %v", version, got, isOld)
		}
	}
	// Debian's list is asked where the program says nothing, not where it is somebody else's.
	status := filepath.Join(dir, "var", "lib", "dpkg", "status")
	if err := errors.Join(os.MkdirAll(filepath.Dir(status), 0o755),
		os.WriteFile(status, []byte("Package: nvidia-container-toolkit-base\nVersion: 1.17.8-1\n"), 0o600)); err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable() // of brig's module
	if err != nil {
		t.Fatal(err)
	}
	if version, old := oldToolkit(dir, self); version != "" || old {
		t.Errorf("brig's own program is of toolkit %q", version)
	}
	if version, old := oldToolkit(dir, filepath.Join(dir, "main.go")); version != "1.17.8" || !old {
		t.Errorf("by Debian's list: %q", version)
	}
	if err := os.Remove(status); err != nil {
		t.Fatal(err)
	}
	if version, old := oldToolkit(dir, filepath.Join(dir, "main.go")); version != "" || old {
		t.Errorf("no program: %q", version)
	}
}
