package e2e

import (
	"encoding/json"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"brig/tests/node"
)

// TestRun is the first thing a newcomer does; the image comes from the registry.
func TestRun(t *testing.T) {
	t.Parallel()
	n := use(t)
	r := n.Try(t, "run", n.python, "--", "python3", "-c", `print("hello")`)
	if r.Code != 0 || r.Stdout != "hello\n" {
		t.Fatal(r)
	}
}

// TestRunExitsAsTheProgram covers codes, signals and the two streams.
func TestRunExitsAsTheProgram(t *testing.T) {
	t.Parallel()
	n := use(t)
	for _, tc := range []struct {
		script, stdout, stderr string
		code                   int
	}{
		{"echo out; echo err >&2; exit 3", "out\n", "err\n", 3},
		{"kill -TERM $$", "", "", 143},
		{"kill -KILL $$", "", "", 137},
		{"exit 255", "", "", 255},
	} {
		r := n.Try(t, "run", n.busybox, "--", "sh", "-c", tc.script)
		if r.Code != tc.code || r.Stdout != tc.stdout || !strings.Contains(r.Stderr, tc.stderr) {
			t.Errorf("want status %d, stdout %q, stderr with %q; got %s", tc.code, tc.stdout, tc.stderr, r)
		}
	}
	r := n.Try(t, "run", n.busybox, "--", "/no/such/program/to/run")
	if r.Code == 0 || !strings.Contains(r.Stderr, "/no/such/program/to/run") {
		t.Errorf("want a failure that names the program, got %s", r)
	}
	if left := n.Brig(t, "ls", "--json", "--all"); strings.Contains(left, "/no/such/program/to/run") {
		t.Errorf("run left its sandbox: %s", left)
	}
}

// TestRunManyShort would see an exit that is lost when a program ends at once.
func TestRunManyShort(t *testing.T) {
	t.Parallel()
	n := use(t)
	for i := range 10 {
		r := n.Try(t, "run", "--block-network", n.busybox, "--", "sh", "-c", "echo $0; exit $0", string(rune('0'+i)))
		if want := string(rune('0'+i)) + "\n"; r.Code != i || r.Stdout != want {
			t.Errorf("want status %d and %q, got %s", i, want, r)
		}
	}
}

// TestServer is the example of the README: a web server behind a tunnel.
func TestServer(t *testing.T) {
	t.Parallel()
	n := use(t)
	id := n.Create(t, "--port", "12345", "--workdir", "/usr", n.python, "--", "python3", "-m", "http.server", "12345")

	table := n.Brig(t, "tunnels", id)
	if !regexp.MustCompile(`12345\s.*https://127\.0\.0\.1:\d+`).MatchString(table) {
		t.Errorf("tunnels prints %q", table)
	}
	tunnel := tunnels(t, n.Node, id)[0]
	if tunnel.SandboxPort != 12345 || tunnel.Kind != "tls" || !strings.Contains(table, tunnel.URL) {
		t.Errorf("tunnels --json says %+v, the table %q", tunnel, table)
	}
	page := fetch(t, n.Node, tunnel.URL)
	if !strings.Contains(page, "bin/") || !strings.Contains(page, "lib/") {
		t.Errorf("the page is no listing of /usr: %q", page)
	}
	curl, err := exec.LookPath("curl")
	if err != nil {
		t.Log("no curl here; the same was tried in Go")
		return
	}
	ca := strings.TrimSpace(n.Brig(t, "node", "ca"))
	r := node.Run(t, exec.CommandContext(t.Context(), curl, "--noproxy", "*", "--silent", "--show-error", "--cacert", ca, tunnel.URL+"/"))
	if r.Code != 0 || r.Stdout != page {
		t.Errorf("curl: %s\nwant the page %q", r, page)
	}
	if r := node.Run(t, exec.CommandContext(t.Context(), curl, "--noproxy", "*", "--silent", tunnel.URL+"/")); r.Code == 0 {
		t.Error("curl trusts the tunnel without the node's CA")
	}
}

// TestIdle makes a sandbox without a program, for execs.
func TestIdle(t *testing.T) {
	t.Parallel()
	n := use(t)
	id := n.Create(t, "--env", "A=from create", "--env", "B=from create", n.busybox)
	n.Brig(t, "exec", id, "--", "sh", "-c", "echo state > /tmp/f")
	if got := n.Brig(t, "exec", id, "--", "cat", "/tmp/f"); got != "state\n" {
		t.Errorf("the file says %q", got)
	}
	got := n.Brig(t, "exec", "--env", "B=from exec", "--workdir", "/etc", id, "--", "sh", "-c", `echo "$A, $B, $(pwd)"`)
	if want := "from create, from exec, /etc\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	var sb struct{ State string }
	if err := json.Unmarshal([]byte(n.Brig(t, "inspect", id)), &sb); err != nil || sb.State != "running" {
		t.Errorf("state %q, %v", sb.State, err)
	}
}

// TestKernel compares the sandbox's kernel with the host's.
func TestKernel(t *testing.T) {
	t.Parallel()
	n := use(t)
	id := n.Create(t, n.busybox)
	host, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		t.Fatal(err)
	}
	uname := n.Brig(t, "exec", id, "--", "uname", "-a")
	if !strings.HasPrefix(uname, "Linux ") || strings.Contains(uname, strings.TrimSpace(string(host))) {
		t.Errorf("uname -a says %q on a host with kernel %s", uname, host)
	}
	if dmesg := n.Brig(t, "exec", id, "--", "dmesg"); !strings.Contains(dmesg, "gVisor") {
		t.Errorf("the sandbox's kernel log has no gVisor: %q", dmesg)
	}
}

// TestListsAndLogs covers ls, logs, wait, rm.
func TestListsAndLogs(t *testing.T) {
	t.Parallel()
	n := use(t)
	id := n.Create(t, "--name", "logger", "--tag", "suite=logs", n.busybox, "--",
		"sh", "-c", "echo one; echo two >&2; while [ ! -e /tmp/go ]; do sleep 0.1; done; echo three; exit 4")
	if ls := n.Brig(t, "ls", "--tag", "suite=logs"); !strings.Contains(ls, id) || !strings.Contains(ls, "logger") {
		t.Errorf("ls: %q", ls)
	}
	if ls := n.Brig(t, "ls", "--tag", "suite=other"); strings.Contains(ls, id) {
		t.Errorf("ls of another tag: %q", ls)
	}
	n.Try(t, "exec", "logger", "--", "touch", "/tmp/go") // whose end the sandbox's may overtake
	if r := n.Try(t, "wait", id); r.Code != 4 {
		t.Error(r)
	}
	if r := n.Try(t, "logs", id); r.Code != 0 || r.Stdout != "one\nthree\n" || r.Stderr != "two\n" {
		t.Error(r)
	}
	if ls := n.Brig(t, "ls"); strings.Contains(ls, id) {
		t.Errorf("ls shows an ended sandbox: %q", ls)
	}
	var list []struct {
		ID    string
		State string
		Exit  struct {
			Code   int
			Reason string
		}
	}
	if err := json.Unmarshal([]byte(n.Brig(t, "ls", "--all", "--json", "--tag", "suite=logs")), &list); err != nil {
		t.Fatal(err)
	}
	if len(list) != 1 || list[0].ID != id || list[0].State != "exited" || list[0].Exit.Code != 4 || list[0].Exit.Reason != "exited" {
		t.Errorf("ls --all --json: %+v", list)
	}
	n.Brig(t, "rm", id)
	if r := n.Try(t, "inspect", id); r.Code == 0 || !strings.Contains(r.Stderr, id) {
		t.Errorf("inspect of a removed sandbox: %s", r)
	}
}

// TestLogsFollow reads on while the program writes.
func TestLogsFollow(t *testing.T) {
	t.Parallel()
	n := use(t)
	id := n.Create(t, n.busybox, "--", "sh", "-c", "for i in 1 2 3; do echo $i; sleep 0.3; done")
	if r := n.Try(t, "logs", "-f", id); r.Code != 0 || r.Stdout != "1\n2\n3\n" {
		t.Error(r)
	}
}
