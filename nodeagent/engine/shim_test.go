package engine

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"brig/internal/require"
)

// program is a shell by another name, which everybody may run.
func program(t *testing.T, name string) string {
	t.Helper()
	shell, err := os.ReadFile("/bin/sh")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, shell, 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// standIn is a process with a shim's command line, which is in place when this returns.
func standIn(t *testing.T, program, id string, as syscall.SysProcAttr) {
	t.Helper()
	cmd := exec.Command(program, "-c", "sleep 60; :", "-namespace", "brig", "-id", id, "-address", "x")
	as.Setpgid = true
	cmd.Dir, cmd.SysProcAttr = "/", &as
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		_ = cmd.Wait()
	})
}

// found tells whether something is taken for the shim of the sandbox.
func found(t *testing.T, namespace, id string) bool {
	t.Helper()
	s, err := findShim(namespace, id)
	if err != nil {
		t.Fatal(err)
	}
	if s == nil {
		return false
	}
	s.close()
	return true
}

func TestFindShim(t *testing.T) {
	standIn(t, program(t, shimProgram), "sb-shim", syscall.SysProcAttr{})
	if !found(t, "brig", "sb-shim") {
		t.Error("no shim is found")
	}
	for _, other := range [][2]string{{"brig", "sb-shi"}, {"brig", "sb-shim2"}, {"other", "sb-shim"}} {
		if found(t, other[0], other[1]) {
			t.Errorf("sandbox %s of namespace %s has another one's shim", other[1], other[0])
		}
	}
}

// TestForgedShim: what anybody else starts with a shim's command line is none.
func TestForgedShim(t *testing.T) {
	standIn(t, program(t, "passwd"), "sb-program", syscall.SysProcAttr{})
	if found(t, "brig", "sb-program") {
		t.Error("any program is taken for a shim")
	}
	require.Root(t) // to have processes of others
	standIn(t, program(t, shimProgram), "sb-user", syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}})
	if found(t, "brig", "sb-user") {
		t.Error("another user's process is taken for a shim")
	}
	standIn(t, program(t, shimProgram), "sb-container", syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID})
	if found(t, "brig", "sb-container") {
		t.Error("the process of a container's root is taken for a shim")
	}
}
