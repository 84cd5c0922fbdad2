package containerd

import (
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"brig/internal/config"
)

// TestEnsureAfterOneThatDies: it is there when it is looked for, and does not answer.
func TestEnsureAfterOneThatDies(t *testing.T) {
	dir := t.TempDir()
	cfg := config.Defaults()
	cfg.RunDir, cfg.StateDir, cfg.Containerd.Address = dir, dir, filepath.Join(dir, "sock")
	cfg.Containerd.Binary = filepath.Join(dir, "containerd")
	if err := os.WriteFile(cfg.Containerd.Binary, []byte("#!/bin/sh\nexec sleep 60\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	o := New(&cfg, "", slog.New(slog.DiscardHandler))
	dying := exec.Command("sleep", "60")
	if err := dying.Start(); err != nil {
		t.Fatal(err)
	}
	start, err := startOf(dying.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	if err := (process{pid: dying.Process.Pid, start: start}).save(o.pidFile()); err != nil {
		t.Fatal(err)
	}
	go func() {
		time.Sleep(100 * time.Millisecond) // Ensure has found it
		_ = dying.Process.Kill()
		_ = dying.Wait()
		for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
			if p, alive := find(o.pidFile()); alive && p.pid != dying.Process.Pid {
				if l, err := net.Listen("unix", cfg.Containerd.Address); err == nil {
					defer l.Close()
					time.Sleep(time.Second)
				}
				return
			}
		}
	}()
	if err := o.Ensure(t.Context()); err != nil {
		t.Error(err)
	}
	next, alive := find(o.pidFile())
	if !alive || next.pid == dying.Process.Pid {
		t.Fatal("none was started")
	}
	if err := next.signal(unix.SIGKILL); err != nil {
		t.Error(err)
	}
}
