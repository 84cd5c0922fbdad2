package crash

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"brig/internal/sandbox"
)

// TestStartWithoutCaller: whoever asked for a shim went away before it served. It is not
// started, or waits for nobody to end when it is told to.
func TestStartWithoutCaller(t *testing.T) {
	t.Parallel()
	n := use(t)
	s := n.unstarted(t, n.namespace(), string(sandbox.NewID()))
	s.log.Close()
	if path, err := s.start(); err == nil {
		t.Errorf("a shim serves %s, and nobody hears what it says", path)
	}
	if err := os.RemoveAll(s.bundle); err != nil { // as containerd does
		t.Fatal(err)
	}
	wantNothingLeft(t, n, s.id)
}

// TestCallerGoesAway: it does so the moment that the shim was started. The shim ends when
// it is told to, once, however far it has got.
func TestCallerGoesAway(t *testing.T) {
	t.Parallel()
	n := use(t)
	rng := chance(t.Name())
	for range 10 * rounds() {
		s := n.unstarted(t, n.namespace(), string(sandbox.NewID()))
		if _, err := s.start(); err != nil {
			t.Fatal(err)
		}
		s.log.Close()
		if err := os.RemoveAll(s.bundle); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(rng.IntN(40)) * time.Millisecond)
		for pid := range n.processes(s.id) {
			if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
				t.Errorf("end shim %d: %v", pid, err)
			}
		}
		eventually(t, unusedLook, func() error {
			if left := n.processes(s.id); len(left) > 0 {
				return fmt.Errorf("it is there: %v", left)
			}
			return nil
		})
		for _, line := range n.sockets(s.id) { // of one that ended before it knew that it had one
			path, _, _ := strings.Cut(line, " ")
			if err := os.Remove(path); err != nil {
				t.Error(err)
			}
		}
	}
}

// unusedLook is less than it takes a shim to see by itself that nobody can use it.
const unusedLook = 4 * time.Second
