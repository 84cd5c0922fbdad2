package e2e

import (
	"os"
	"strings"
	"syscall"
	"testing"

	"brig/tests/node"
)

// nobody is a uid that may open the socket, by its group, and owns nothing. It is not the
// kernel's overflow uid, which is not served.
const nobody = 65533

// as runs the command line under another uid, in the socket's group.
func (f *fixture) as(t *testing.T, uid uint32, args ...string) node.Result {
	t.Helper()
	cmd := f.BrigCommand(t.Context(), args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: 0}}
	return node.Run(t, cmd)
}

// TestOwners: a sandbox is its uid's and root's; to others it is not there.
func TestOwners(t *testing.T) {
	t.Parallel()
	n := use(t)
	ofRoot := n.Create(t, "--name", "shared-name", n.busybox)
	r := n.as(t, nobody, "create", "--name", "shared-name", n.busybox)
	if r.Code != 0 {
		t.Fatal(r)
	}
	id := strings.TrimSpace(r.Stdout)
	t.Cleanup(func() { n.Try(t, "rm", "--force", id) })
	if r := n.as(t, nobody, "ls"); !strings.Contains(r.Stdout, id) || strings.Contains(r.Stdout, ofRoot) {
		t.Errorf("its owner's list: %s", r)
	}
	if ls := n.Brig(t, "ls"); !strings.Contains(ls, id) || !strings.Contains(ls, ofRoot) {
		t.Errorf("root's list: %s", ls)
	}
	for _, args := range [][]string{
		{"inspect", ofRoot}, {"exec", ofRoot, "--", "true"}, {"logs", ofRoot}, {"tunnels", ofRoot},
		{"tunnel", "open", ofRoot, "80"}, {"wait", ofRoot}, {"rm", "--force", ofRoot},
	} {
		if r := n.as(t, nobody, args...); r.Code == 0 || !strings.Contains(r.Stderr, ofRoot) {
			t.Errorf("another's sandbox: %s", r)
		}
	}
	if r := n.as(t, nobody, "exec", "shared-name", "--", "id", "-u"); r.Stdout != "0\n" {
		t.Errorf("its own sandbox by its name: %s", r)
	}
	for sandbox, want := range map[string]string{ofRoot: "root's\n", id: "nobody's\n"} {
		if got := n.Brig(t, "exec", sandbox, "--", "echo", strings.TrimSpace(want)); got != want {
			t.Errorf("root's exec: %q", got)
		}
	}
	for _, args := range [][]string{{"image", "rm", n.busybox}, {"image", "import", os.DevNull}} {
		if r := n.as(t, nobody, args...); r.Code == 0 || !strings.Contains(r.Stderr, "only root may") {
			t.Errorf("an image, whose name others use: %s", r)
		}
	}
	if r := n.as(t, nobody, "rm", "--force", id); r.Code != 0 {
		t.Error(r)
	}
	stranger := n.BrigCommand(t.Context(), "ls")
	stranger.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody, NoSetGroups: false}}
	if r := node.Run(t, stranger); r.Code == 0 {
		t.Errorf("somebody whom the socket's mode does not admit: %s", r)
	}
}
