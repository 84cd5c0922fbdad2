package engine

import (
	"os/exec"
	"syscall"
	"testing"
	"time"

	"brig/internal/require"
)

// standIn is a process with a shim's command line.
func standIn(t *testing.T, id string, credential *syscall.Credential) {
	t.Helper()
	cmd := exec.Command("sh", "-c", "sleep 60; :", "-id", id, "-address", "x")
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: credential, Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		_ = cmd.Wait()
	})
}

func TestShimOf(t *testing.T) {
	standIn(t, "sb-shim", nil)
	if pid, err := shimOf("sb-shim"); err != nil || pid == 0 {
		t.Errorf("process %d, %v; want the shim's", pid, err)
	}
	require.Root(t) // to have a process of another user
	standIn(t, "sb-other", &syscall.Credential{Uid: 65534, Gid: 65534})
	for until := time.Now().Add(200 * time.Millisecond); time.Now().Before(until); time.Sleep(10 * time.Millisecond) {
		if pid, err := shimOf("sb-other"); err != nil || pid != 0 {
			t.Fatalf("process %d, %v: another user's process is taken for a shim", pid, err)
		}
	}
}
