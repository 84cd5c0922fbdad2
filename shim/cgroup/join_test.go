package cgroup

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"brig/internal/require"
)

func TestJoin(t *testing.T) {
	require.Root(t)
	path := fmt.Sprintf("/brig-join-%d", os.Getpid())
	cmd := exec.Command("sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		Remove(path)
	})
	if err := Join(path, cmd.Process.Pid); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("join what is not there: %v", err)
	}
	made := 0
	for _, dir := range folders(path) {
		if strings.Contains(dir, "cpuset") {
			continue // takes nobody before it is given CPUs
		}
		if err := os.Mkdir(dir, 0o755); err == nil {
			made++
		}
	}
	if made == 0 {
		t.Fatal("no cgroup could be made")
	}
	if err := Join(path, cmd.Process.Pid); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", cmd.Process.Pid))
	if got := strings.Count(string(b), path+"\n"); err != nil || got < made {
		t.Errorf("in %d of %d: %v\n%s", got, made, err, b)
	}
}
