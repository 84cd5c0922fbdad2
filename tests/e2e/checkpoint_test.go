package e2e

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"brig/tests/node"
)

// counter counts in a variable of its own, so that only its memory knows where it is.
const counter = `echo kept >/kept; echo kept >/tmp/file; i=0
while [ ! -e /tmp/end ]; do i=$((i+1)); echo $i; echo $i >/tmp/count.new; mv /tmp/count.new /tmp/count; sleep 0.05; done
exit 6`

// sleepers counts the execs that TestCheckpoint leaves.
const sleepers = "ps | grep -c 'sleep [4]242' || true"

// box is a container of ctr's under test.
type box struct {
	*node.Node
	name string
	n    int
}

func newBox(t *testing.T, n *node.Node, name string) *box {
	t.Helper()
	b := &box{Node: n, name: name}
	t.Cleanup(func() { b.remove(t) })
	return b
}

func (b *box) remove(t *testing.T) {
	b.Ctr(t, ctrNamespace, "tasks", "rm", "-f", b.name)
	b.Ctr(t, ctrNamespace, "containers", "rm", b.name)
}

func (b *box) must(t *testing.T, args ...string) string {
	t.Helper()
	r := b.Ctr(t, ctrNamespace, args...)
	if r.Code != 0 {
		t.Fatal(r)
	}
	return r.Stdout
}

// run starts the script in the background.
func (b *box) run(t *testing.T, script string, flags ...string) {
	t.Helper()
	args := append([]string{"run", "-d", "--runtime", "io.containerd.brig.v1"}, flags...)
	b.must(t, append(args, ctrImage, b.name, "sh", "-c", script)...)
}

// exec runs a shell line in the container, which must succeed.
func (b *box) exec(t *testing.T, line string) string {
	t.Helper()
	b.n++
	return b.must(t, "tasks", "exec", "--exec-id", "e"+strconv.Itoa(b.n), b.name, "sh", "-c", line)
}

// count waits until the counter is above floor.
func (b *box) count(t *testing.T, floor int) (n int) {
	t.Helper()
	eventually(t, 20*time.Second, func() error {
		var err error
		n, err = strconv.Atoi(strings.TrimSpace(b.exec(t, "cat /tmp/count 2>/dev/null || echo 0")))
		if err == nil && n <= floor {
			err = fmt.Errorf("the counter is at %d, want more than %d", n, floor)
		}
		return err
	})
	return n
}

func (b *box) state(t *testing.T) string {
	t.Helper()
	for line := range strings.Lines(b.must(t, "tasks", "ls")) {
		if fields := strings.Fields(line); len(fields) == 3 && fields[0] == b.name {
			return fields[2]
		}
	}
	return ""
}

func (b *box) await(t *testing.T, state string) {
	t.Helper()
	eventually(t, 20*time.Second, func() error {
		if got := b.state(t); got != state {
			return fmt.Errorf("%s is %q, want %s", b.name, got, state)
		}
		return nil
	})
}

// ended deletes the task, of which ctr tells the status on stderr.
func (b *box) ended(t *testing.T, code int) {
	t.Helper()
	b.await(t, "STOPPED")
	want := fmt.Sprintf("non-zero exit code %d", code)
	if r := b.Ctr(t, ctrNamespace, "tasks", "rm", b.name); !strings.Contains(r.Stderr, want) {
		t.Errorf("want %q: %s", want, r)
	}
	b.remove(t)
}

// TestCheckpoint: a program goes on elsewhere from where it was, with its memory, its
// files and its status; the one that was checkpointed goes on too.
func TestCheckpoint(t *testing.T) {
	t.Parallel()
	n := useCtr(t).Node
	const image = "brig.test/ckpt:1"
	b := newBox(t, n, "ckpt")
	b.run(t, counter)
	at := b.count(t, 20)
	b.must(t, "tasks", "exec", "-d", "--exec-id", "sleeper", b.name, "sleep", "4242")
	b.must(t, "containers", "checkpoint", "--task", "--rw", "--image", b.name, image)
	t.Cleanup(func() { n.Ctr(t, ctrNamespace, "images", "rm", image) })
	if state := b.state(t); state != "RUNNING" {
		t.Errorf("after the checkpoint it is %s", state)
	}
	if got := b.exec(t, sleepers); got != "1\n" {
		t.Errorf("after the checkpoint %q execs sleep", got)
	}
	later := b.count(t, at+40)
	b.remove(t)
	for _, name := range []string{"ckpt", "ckpt-other"} { // its old name, and another
		r := newBox(t, n, name)
		r.must(t, "containers", "restore", "--live", "--rw", name, image)
		if got := r.count(t, at-1); got >= later {
			t.Errorf("%s: the counter is at %d, was checkpointed at about %d and went on to %d", name, got, at, later)
		}
		if got := r.exec(t, "cat /kept /tmp/file"); got != "kept\nkept\n" {
			t.Errorf("%s: files: %q", name, got)
		}
		eventually(t, 20*time.Second, func() error { // nobody could be told of its end
			if got := r.exec(t, sleepers); got != "0\n" {
				return fmt.Errorf("%s: %q execs of the other sandbox sleep", name, got)
			}
			return nil
		})
		r.exec(t, "touch /tmp/end")
		r.ended(t, 6)
	}
}

// TestCheckpointTerminal: the restored program has the new task's terminal.
func TestCheckpointTerminal(t *testing.T) {
	t.Parallel()
	n := useCtr(t).Node
	const image = "brig.test/ckpt-tty:1"
	b := newBox(t, n, "ckpt-tty")
	cmd := n.CtrCommand(t.Context(), ctrNamespace, "run", "-t", "--runtime", "io.containerd.brig.v1", ctrImage, b.name,
		"sh", "-c", "read a; echo is $a; until [ \"$(stty size)\" = '40 100' ]; do sleep 0.1; done; stty size; exit 9") // ctr sets it after the start
	_, _ = terminal(t, cmd, 30, 90)
	b.await(t, "RUNNING")
	b.must(t, "containers", "checkpoint", "--task", b.name, image)
	t.Cleanup(func() { n.Ctr(t, ctrNamespace, "images", "rm", image) })
	b.must(t, "tasks", "kill", "-s", "KILL", b.name)
	_ = waitFor(cmd, 20*time.Second)
	b.remove(t)

	cmd = n.CtrCommand(t.Context(), ctrNamespace, "containers", "restore", "--live", b.name, image)
	master, out := terminal(t, cmd, 40, 100)
	b.await(t, "RUNNING")
	if _, err := io.WriteString(master, "restored\n"); err != nil {
		t.Fatal(err)
	}
	out.expect(t, "is restored")
	out.expect(t, "40 100")
	if err := waitFor(cmd, 20*time.Second); err == nil || cmd.ProcessState.ExitCode() != 9 {
		t.Errorf("status %d, want 9; the terminal says\n%s", cmd.ProcessState.ExitCode(), out)
	}
}

// TestCheckpointToAFolder ends the program if it is asked to.
func TestCheckpointToAFolder(t *testing.T) {
	t.Parallel()
	n := useCtr(t).Node
	b := newBox(t, n, "ckpt-folder")
	b.run(t, counter)
	at := b.count(t, 5)
	image := filepath.Join(t.TempDir(), "image")
	b.must(t, "tasks", "checkpoint", "--image-path", image, b.name)
	b.count(t, at)
	if r := n.Ctr(t, ctrNamespace, "tasks", "checkpoint", "--exit", "--image-path", image, b.name); r.Code == 0 || !strings.Contains(r.Stderr, "choose an empty folder") {
		t.Errorf("a checkpoint over a checkpoint: %s", r)
	}
	at = b.count(t, at)
	b.count(t, at)
	time.Sleep(time.Second) // ctr names an image by the second
	b.must(t, "tasks", "checkpoint", "--exit", "--image-path", image+"2", b.name)
	b.ended(t, 137)
	for _, path := range []string{image, image + "2"} {
		if entries, err := os.ReadDir(path); err != nil || len(entries) != 4 {
			t.Errorf("image: %v, %v", entries, err)
		}
	}
	list := n.Ctr(t, ctrNamespace, "images", "ls", "-q").Stdout // ctr makes one of the root's changes in any case
	for name := range strings.Lines(list) {
		if strings.Contains(name, "checkpoint/"+b.name) {
			n.Ctr(t, ctrNamespace, "images", "rm", strings.TrimSpace(name))
		}
	}
}
