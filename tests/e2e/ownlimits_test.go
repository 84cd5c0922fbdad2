package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"brig/internal/sandbox"
	brigv1 "brig/nodeagent/api/brig/v1"
	"brig/nodeagent/record"
	"brig/nodeagent/store"
	"brig/tests/node"

	"connectrpc.com/connect"
)

// TestNodeWithLimits has a node whose operator shows a folder, has quotas and defaults, and
// whose brigd is killed.
func TestNodeWithLimits(t *testing.T) {
	shown := t.TempDir()
	for path, text := range map[string]string{"data/file": "shown\n", "data/deep/file": "deep\n", "secret": "hidden\n"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(shown, "root", path)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(shown, "root", path), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("/etc", filepath.Join(shown, "root/out")); err != nil {
		t.Fatal(err)
	}
	root := filepath.Join(shown, "root")
	n := launch(t, node.Options{Overrides: fmt.Sprintf(
		"[mounts]\nroots = [%q]\n[quotas]\nsandboxes = 2\nmemory_mib = 300\n[sandboxes]\npids = 64\n", root)})
	t.Run("bind mounts", func(t *testing.T) { bindMounts(t, n, root) })
	t.Run("quotas", func(t *testing.T) { quotas(t, n) })
	t.Run("defaults", func(t *testing.T) { defaults(t, n) })
	t.Run("brigd is killed", func(t *testing.T) { brigdIsKilled(t, n) })
	t.Run("exit code", func(t *testing.T) { lostAndCrashed(t, n) })
}

func bindMounts(t *testing.T, n *fixture, root string) {
	bind := func(source, target string) string { return "type=bind,source=" + source + ",target=" + target }
	id := n.Create(t, "--mount", bind(root+"/data", "/made/here"), "--mount", bind(root+"/data/file", "/etc/one"), "--mount", bind(root+"/data", "/tmp")+",rw", n.busybox)
	for want, script := range map[string]string{
		"shown\ndeep\n": "cat /made/here/file /made/here/deep/file",
		"shown\n":       "cat /etc/one",
		"no\n":          "(echo x > /made/here/new) 2>/dev/null || echo no",
		"1\n":           "echo x > /etc/one 2>/dev/null; echo $?",
		"written\n":     "echo written > /tmp/new && cat /made/here/new",
	} {
		if got := n.Brig(t, "exec", id, "--", "sh", "-c", script); got != want {
			t.Errorf("%s: %q, want %q", script, got, want)
		}
	}
	if data, err := os.ReadFile(root + "/data/new"); err != nil || string(data) != "written\n" {
		t.Errorf("what was written: %q, %v", data, err)
	}
	if info, err := os.Stat(root + "/data/file"); err != nil || info.Size() != 6 {
		t.Errorf("what is shown read-only was changed: %v, %v", info, err)
	}
	for source, code := range map[string]string{
		"/etc":            "is below none of the folders that this node shows",
		root + "/out":     "leads out of",
		root + "/out/ssl": "leads out of",
		root + "/none":    "is not there",
		root + "/../..":   "want a clean absolute path",
	} {
		if r := n.Try(t, "create", "--mount", bind(source, "/x"), n.busybox); r.Code == 0 || !strings.Contains(r.Stderr, code) {
			t.Errorf("want %q: %s", code, r)
		}
	}
	if r := n.as(t, nobody, "create", "--memory", "64", "--mount", bind(root+"/data", "/x")+",rw", n.busybox); r.Code == 0 || !strings.Contains(r.Stderr, "only root") {
		t.Errorf("a writable one of somebody else's: %s", r)
	}
	if r := n.as(t, nobody, "run", "--memory", "64", "--mount", bind(root+"/data", "/x"), n.busybox, "--", "cat", "/x/file"); r.Stdout != "shown\n" {
		t.Error(r)
	}
	c, err := n.Config()
	if err != nil {
		t.Fatal(err)
	}
	// They survive a brigd that is killed, and go with the sandbox.
	n.restart(t)
	if got := n.Brig(t, "exec", id, "--", "cat", "/made/here/file"); got != "shown\n" {
		t.Errorf("after a restart: %q", got)
	}
	n.Brig(t, "rm", "--force", id)
	left, err := os.ReadDir(c.BindsDir())
	mounts, errMounts := os.ReadFile("/proc/self/mountinfo")
	if err != nil || errMounts != nil || len(left) > 0 || strings.Contains(string(mounts), c.BindsDir()+"/") {
		t.Errorf("left staged: %v, %v, %v", left, err, errMounts)
	}
	if _, err := os.Stat(root + "/data/deep/file"); err != nil {
		t.Errorf("the source: %v", err)
	}
}

// restart kills brigd and starts it again.
func (f *fixture) restart(t *testing.T) {
	t.Helper()
	if err := f.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := f.Start(); err != nil {
		t.Fatal(err)
	}
}

func quotas(t *testing.T, n *fixture) {
	create := func(args ...string) node.Result {
		return n.as(t, nobody, append(append([]string{"create", "--block-network"}, args...), n.busybox)...)
	}
	first := create("--memory", "100")
	if first.Code != 0 {
		t.Fatal(first)
	}
	for want, args := range map[string][]string{
		"quotas.memory_mib":               {"--memory", "201"},
		"resources.memory_mib is missing": nil,
	} {
		if r := create(args...); r.Code == 0 || !strings.Contains(r.Stderr, want) {
			t.Errorf("want %s: %s", want, r)
		}
	}
	n.restart(t)
	second := create("--memory", "200")
	if second.Code != 0 {
		t.Fatal(second)
	}
	if r := create("--memory", "32"); r.Code == 0 || !strings.Contains(r.Stderr, "at most 2 (quotas.sandboxes)") {
		t.Errorf("a third one: %s", r)
	}
	if r := n.as(t, nobody, "node", "info"); !strings.Contains(r.Stdout, "2 of 2 sandboxes, 0 of 1000 execs") || !strings.Contains(r.Stdout, "300 of 300 memory_mib") {
		t.Error(r)
	}
	n.Create(t, "--block-network", n.busybox) // root has none
	for _, r := range []node.Result{first, second} {
		if r := n.as(t, nobody, "rm", "--force", strings.TrimSpace(r.Stdout)); r.Code != 0 {
			t.Error(r)
		}
	}
	if r := create("--memory", "300"); r.Code != 0 {
		t.Errorf("after both have ended: %s", r)
	} else {
		n.Try(t, "rm", "--force", strings.TrimSpace(r.Stdout))
	}
}

func defaults(t *testing.T, n *fixture) {
	id := n.Create(t, "--block-network", n.busybox)
	var sb struct{ Resources struct{ PIDs int } }
	if err := json.Unmarshal([]byte(n.Brig(t, "inspect", id)), &sb); err != nil || sb.Resources.PIDs != 64 {
		t.Errorf("%+v, %v; want the node's 64 pids", sb, err)
	}
	if got := n.Brig(t, "exec", id, "--", "sh", "-c", "ulimit -u"); got != "64\n" {
		t.Errorf("inside: %q", got)
	}
}

// brigdIsKilled: what was counted and what has happened without it are known to the next.
func brigdIsKilled(t *testing.T, n *fixture) {
	idle := n.Create(t, "--block-network", "--idle-timeout", "3s", n.busybox)
	starved := n.Create(t, "--block-network", "--memory", "96", n.python, "--", "python3", "-c", "import time; time.sleep(1); x = bytearray(b'x') * (1 << 29)")
	left := node.Run // a create under way, whose probe never succeeds
	going := make(chan node.Result, 1)
	go func() {
		going <- left(t, n.BrigCommand(t.Context(), "create", "--block-network", "--tag", "row=probed", "--ready", "exec:false", n.busybox))
	}()
	eventually(t, 10*time.Second, func() error {
		if ls := n.Brig(t, "ls", "--json", "--tag", "row=probed"); !strings.Contains(ls, "sb-") {
			return fmt.Errorf("not begun: %s", ls)
		}
		return nil
	})
	time.Sleep(300 * time.Millisecond) // into the probe
	if err := n.Kill(); err != nil {
		t.Fatal(err)
	}
	if r := <-going; r.Code == 0 {
		t.Error(r)
	}
	time.Sleep(2 * time.Second) // while nobody looks
	if err := n.Start(); err != nil {
		t.Fatal(err)
	}
	ready := time.Now()
	wantEnd(t, n.Node, starved, 137, "oom")
	wantEnd(t, n.Node, idle, 124, "idle_timeout")
	if took := inspected(t, n, idle).GetExit().GetAt().AsTime().Sub(ready); took > 2*time.Second { // it was due before
		t.Errorf("its idle time was counted anew: it took another %v", took)
	}
	eventually(t, 20*time.Second, func() error { // brigd answers before it has undone it
		if ls := n.Brig(t, "ls", "--all", "--json", "--tag", "row=probed"); strings.TrimSpace(ls) != "[]" {
			return fmt.Errorf("of a create that was killed is left: %s", ls)
		}
		return nil
	})
}

// lostAndCrashed are the reasons of which brigd is not told.
func lostAndCrashed(t *testing.T, n *fixture) {
	crashed := n.Create(t, "--block-network", n.busybox)
	kill(t, processOf(t, "containerd-shim-brig-v1", crashed))
	wantEnd(t, n.Node, crashed, 137, "runtime_crash")

	lost := n.Create(t, "--block-network", n.busybox)
	if err := n.Kill(); err != nil {
		t.Fatal(err)
	}
	c, err := n.Config()
	if err != nil {
		t.Fatal(err)
	}
	s, err := store.Open(filepath.Join(c.StateDir, "brig.db"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.Update(sandbox.ID(lost), func(r *record.Record) error {
		r.Deadline.Boot = "another boot"
		return nil
	})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Start(); err != nil {
		t.Fatal(err)
	}
	wantEnd(t, n.Node, lost, 255, "lost")
}

// TestOneSuffers is row 17 of the promises: what one sandbox does to itself its neighbour
// does not feel.
func TestOneSuffers(t *testing.T) {
	n := use(t)
	neighbour := n.Create(t, "--block-network", n.busybox)
	listening, err := n.Sandboxes.Events(t.Context(), connect.NewRequest(&brigv1.EventsRequest{}))
	if err != nil {
		t.Fatal(err)
	}
	defer listening.Close()
	for _, tc := range []struct {
		name   string
		flags  []string
		script string
		reason string // empty: it goes on
	}{
		{"fork bomb", []string{"--pids", "32"}, "import os\nwhile True:\n try: os.fork()\n except OSError: pass", ""},
		{"memory bomb", []string{"--memory", "128"}, "x = []\nwhile True: x.append(bytearray(b'x') * (1 << 22))", "oom"},
		{"disk filler", []string{"--disk", "32"}, "import os\nf = os.open('/f', os.O_CREAT | os.O_WRONLY)\nwhile True:\n try: os.write(f, b'x' * 65536)\n except OSError: pass", ""},
		{"output flood", nil, "import os\nwhile True: os.write(1, b'x' * 65536)", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			id := n.Create(t, append(append([]string{"--block-network", "--cpu", "0.5"}, tc.flags...), n.python, "--", "python3", "-c", tc.script)...)
			time.Sleep(time.Second)
			if got := n.Brig(t, "exec", neighbour, "--", "sh", "-c", "echo here > /f && cat /f"); got != "here\n" {
				t.Errorf("the neighbour: %q", got)
			}
			if tc.reason != "" {
				wantEnd(t, n.Node, id, 137, tc.reason)
				for listening.Receive() {
					if e := listening.Msg().GetEvent(); e.GetSandbox() == id && e.GetOom() != nil {
						return
					}
				}
				t.Errorf("no event of it: %v", listening.Err())
				return
			}
			if e := inspect(t, n.Node, id); e.State != "running" {
				t.Errorf("%+v", e)
			}
			n.Brig(t, "rm", "--force", id)
		})
	}
}
