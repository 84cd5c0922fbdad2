package gate

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"brig/internal/config"
	"brig/internal/netns"
)

func TestClaim(t *testing.T) {
	cfg := &config.Config{RunDir: t.TempDir()}
	inode, err := netns.ID("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	owner := exec.CommandContext(t.Context(), "sleep", "60")
	if err := owner.Start(); err != nil {
		t.Fatal(err)
	}
	first := Request{Namespace: "default", ID: "first", SentryPID: owner.Process.Pid}
	second := Request{Namespace: "default", ID: "second", SentryPID: os.Getpid()}
	for range 2 {
		if err := claim(cfg, first, inode); err != nil {
			t.Fatal(err)
		}
	}
	if err := claim(cfg, second, inode); err == nil || !strings.Contains(err.Error(), "taken by sandbox first") {
		t.Errorf("a second claim: %v", err)
	}
	if err := claim(cfg, second, inode+1); err != nil {
		t.Errorf("a claim of another namespace: %v", err)
	}
	if err := owner.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = owner.Wait() // "signal: killed"
	if err := claim(cfg, second, inode); err != nil {
		t.Errorf("a claim after the owner's end: %v", err)
	}
	if err := release(cfg, "default", "second"); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(claimsDir(cfg)); err != nil || len(left) != 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

// A pid that came back as another process holds nothing.
func TestHolderIsAProcessNotAPid(t *testing.T) {
	inode, err := netns.ID("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	start, err := startTime(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		holder holder
		inode  uint64
		want   bool
	}{
		{holder{PID: os.Getpid(), Start: start}, inode, true},
		{holder{PID: os.Getpid(), Start: "1"}, inode, false},
		{holder{PID: os.Getpid(), Start: start}, inode + 1, false},
		{holder{}, inode, false},
	} {
		if got := tc.holder.alive(tc.inode); got != tc.want {
			t.Errorf("%+v in %d: alive %t, want %t", tc.holder, tc.inode, got, tc.want)
		}
	}
}
