package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"brig/internal/require"
	"brig/tests/node"

	"golang.org/x/sys/unix"
)

// worker counts, and has files and memory that take a while to save.
const worker = `dd if=/dev/urandom of=/large bs=1M count=48 2>/dev/null; echo ready
i=0; while :; do i=$((i+1)); echo $i; sleep 0.02; done`

// kept is all that a node has of snapshots and checkpoints, by what lies where.
func kept(t *testing.T, n *node.Node) (lines []string) {
	t.Helper()
	for _, pattern := range []string{"snapshots/*", "checkpoints/*/*", "checkpoints/*/.*"} {
		found, err := filepath.Glob(filepath.Join(n.Dir, "state", pattern))
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, found...)
	}
	for _, args := range [][]string{{"leases", "ls", "-q"}, {"content", "ls", "-q"}, {"content", "active"}, {"images", "ls", "-q"}} {
		r := n.Ctr(t, "brig", args...)
		if r.Code != 0 {
			t.Fatal(r)
		}
		for line := range strings.Lines(r.Stdout) {
			if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "REF") {
				lines = append(lines, args[0]+" "+line)
			}
		}
	}
	slices.Sort(lines)
	return slices.Compact(lines)
}

// goesOn tells that a sandbox counts on.
func goesOn(t *testing.T, n *node.Node, id string) {
	t.Helper()
	at := n.Brig(t, "logs", id)
	eventually(t, 20*time.Second, func() error {
		if n.Brig(t, "logs", id) == at {
			return errString("the sandbox stands still")
		}
		return nil
	})
}

// TestKilledWhileSaving: whenever brigd is killed, a snapshot or a checkpoint is whole or
// not there at all, and the sandbox goes on.
func TestKilledWhileSaving(t *testing.T) {
	n := launch(t, node.Options{})
	id := n.Create(t, n.busybox, "--", "sh", "-c", worker)
	countedBy(t, n.Node, id)
	before := kept(t, n.Node)
	for _, saving := range []struct {
		name   string
		args   []string
		moment []time.Duration
		use    []string // what is made is whole
		remove []string
	}{
		{"snapshot", []string{"snapshot", id, "cut"}, []time.Duration{60, 250, 700}, []string{"create", "cut"}, []string{"image", "rm", "cut"}},
		{"checkpoint", []string{"checkpoint", id, "cut"}, []time.Duration{50, 150}, []string{"create", "--from-checkpoint", "cut"}, []string{"checkpoints", "rm", "cut"}},
	} {
		for _, after := range saving.moment {
			after *= time.Millisecond
			cmd := n.BrigCommand(t.Context(), saving.args...)
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			time.Sleep(after)
			if err := n.Kill(); err != nil {
				t.Fatal(err)
			}
			acknowledged := cmd.Wait() == nil
			if err := n.Start(); err != nil {
				t.Fatal(err)
			}
			what := fmt.Sprintf("%s, killed after %v", saving.name, after)
			r := n.Try(t, saving.use...)
			if r.Code != 0 && acknowledged {
				t.Errorf("%s: it was acknowledged: %s", what, r)
			}
			if r.Code == 0 {
				n.Brig(t, "rm", "--force", strings.TrimSpace(r.Stdout))
				n.Brig(t, saving.remove...)
			}
			t.Logf("%s: acknowledged %v, there %v", what, acknowledged, r.Code == 0)
			eventually(t, 20*time.Second, func() error {
				if now := kept(t, n.Node); !slices.Equal(before, now) {
					return fmt.Errorf("%s: the node had\n%s\nand has\n%s", what, strings.Join(before, "\n"), strings.Join(now, "\n"))
				}
				return nil
			})
		}
		goesOn(t, n.Node, id)
		// The shim may still be at it; then it is free again.
		eventually(t, 20*time.Second, func() error {
			if r := n.Try(t, saving.args...); r.Code != 0 {
				return errString(r.String())
			}
			return nil
		})
		if saving.name == "snapshot" {
			n.Brig(t, saving.remove...)
		}
	}
	n.killedWhileRestoring(t)
	n.Brig(t, "rm", "--force", id)
}

// killedWhileRestoring: a restored sandbox is whole or not there.
func (f *fixture) killedWhileRestoring(t *testing.T) {
	t.Helper()
	for _, after := range []time.Duration{100 * time.Millisecond, 400 * time.Millisecond} {
		cmd := f.BrigCommand(t.Context(), "create", "--name", "restored", "--from-checkpoint", "cut")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(after)
		if err := f.Kill(); err != nil {
			t.Fatal(err)
		}
		acknowledged := cmd.Wait() == nil
		if err := f.Start(); err != nil {
			t.Fatal(err)
		}
		var there bool
		eventually(t, 20*time.Second, func() error { // what is half made is undone behind the calls
			ls := f.Brig(t, "ls")
			if there = strings.Contains(ls, "restored"); there && strings.Contains(ls, "creating") {
				return errString(ls)
			}
			return nil
		})
		t.Logf("restore, killed after %v: acknowledged %v, there %v", after, acknowledged, there)
		if acknowledged && !there {
			t.Errorf("a restored sandbox that was acknowledged is gone")
		}
		if there {
			goesOn(t, f.Node, "restored")
			f.Brig(t, "rm", "--force", "restored")
		}
	}
}

// TestSavingWhatEnds: a sandbox that is ended while it is saved ends, and nothing is left.
func TestSavingWhatEnds(t *testing.T) {
	t.Parallel()
	n := use(t)
	for i, save := range [][]string{{"snapshot"}, {"checkpoint"}, {"checkpoint", "--exit"}} {
		id := n.Create(t, n.busybox, "--", "sh", "-c", worker)
		countedBy(t, n.Node, id)
		name := fmt.Sprintf("e2e-ending-%d", i)
		cmd := n.BrigCommand(t.Context(), append(save, id, name)...)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(100 * time.Millisecond)
		n.Brig(t, "rm", "--force", id)
		if err := cmd.Wait(); err == nil { // it was faster
			n.Try(t, "image", "rm", name)
			n.Try(t, "checkpoints", "rm", name)
		}
		for _, list := range [][]string{{"image", "ls"}, {"checkpoints", "ls"}} {
			if got := n.Brig(t, list...); strings.Contains(got, name) {
				t.Errorf("%v: %s", save, got)
			}
		}
	}
}

// TestSavingOnAFullDisk is a clear error that leaves nothing, and the sandbox goes on.
func TestSavingOnAFullDisk(t *testing.T) {
	require.Root(t)
	n := launch(t, node.Options{})
	id := n.Create(t, n.busybox, "--", "sh", "-c", worker)
	countedBy(t, n.Node, id)
	before := kept(t, n.Node)
	for _, c := range []struct{ folder, size, want string }{
		{"checkpoints", "2m", "is full: make room"},
		{"snapshots", "4m", "is full: make room for a snapshot"},
		{"snapshots", "100m", "do not fit into 33 MiB, a third of the room"},
	} {
		dir := filepath.Join(n.Dir, "state", c.folder)
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=700,size="+c.size); err != nil {
			t.Fatal(err)
		}
		r := n.Try(t, strings.TrimSuffix(c.folder, "s"), id, "full")
		if r.Code == 0 || !strings.Contains(r.Stderr, c.want) {
			t.Errorf("%s in %s: %s", c.folder, c.size, r)
		}
		if now := kept(t, n.Node); !slices.Equal(before, now) {
			t.Errorf("left of it: %v", now)
		}
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
		goesOn(t, n.Node, id)
	}
	n.Brig(t, "checkpoint", id, "room")
	n.Brig(t, "checkpoints", "rm", "room")
	n.Brig(t, "rm", "--force", id)
}
