package shim

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestEndOfAnUnusedShim: one that has a sandbox stays, one that nobody can reach does not.
func TestEndOfAnUnusedShim(t *testing.T) {
	for name, gone := range map[string]bool{"unused": false, "forgotten": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var used atomic.Bool
				used.Store(true)
				ended := make(chan time.Time, 1)
				go endUnused(t.Context(), func() bool { return !used.Load() }, func() bool { return gone }, func() { ended <- time.Now() })
				time.Sleep(time.Hour)
				used.Store(false)
				free, most := time.Now(), unusedTime+lookTime
				if gone {
					most = lookTime
				}
				if took := (<-ended).Sub(free); took > most || took < most-2*lookTime {
					t.Errorf("ended after %v, want %v", took, most)
				}
			})
		})
	}
}

func TestBundleIsGone(t *testing.T) {
	dir := t.TempDir() + "/bundle"
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	if bundleIsGone() {
		t.Error("gone before it was removed")
	}
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	if !bundleIsGone() {
		t.Error("there after it was removed")
	}
}

// TestSocketOfADeadShim is found while the shim lives, whatever has become of its bundle, and
// removed when nobody serves it any more.
func TestSocketOfADeadShim(t *testing.T) {
	path := filepath.Join(t.TempDir(), "socket")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		t.Fatal(err)
	}
	socket, err := file(l)
	if err != nil {
		t.Fatal(err)
	}
	server := exec.Command("sleep", "60")
	server.ExtraFiles = []*os.File{socket}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	socket.Close()
	found := socketOf(server.Process.Pid)
	if found != "unix://"+path {
		t.Errorf("it serves %q, want %q", found, path)
	}
	if err := removeDead(found); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Errorf("the socket of a living shim: %v", err)
	}
	_ = server.Process.Kill()
	_ = server.Wait()
	for range 2 {
		if err := removeDead(found); err != nil {
			t.Error(err)
		}
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket of a dead shim: %v", err)
	}
	if got := socketOf(os.Getpid()); got == found {
		t.Errorf("this process serves %s", got)
	}
}
