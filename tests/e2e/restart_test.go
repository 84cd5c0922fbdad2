package e2e

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"syscall"
	"testing"
	"time"

	brigv1 "brig/nodeagent/api/brig/v1"
	"brig/tests/census"
	"brig/tests/node"

	"connectrpc.com/connect"
)

// TestRestartOfBrigd kills brigd under sandboxes that go on, and looks at them again.
func TestRestartOfBrigd(t *testing.T) {
	t.Parallel()
	n := launch(t, node.Options{})
	server := n.Create(t, "--no-egress", "--port", "7/tcp", n.python, "--", "python3", "-c", echo)
	writer := n.Create(t, n.busybox, "--", "sh", "-c", "i=0; while [ $i -lt 300 ]; do echo line $i; i=$((i+1)); sleep 0.02; done; sleep 1000")
	short := n.Create(t, n.busybox, "--", "sh", "-c", "echo last words; sleep 3; exit 7")
	done := n.Create(t, n.busybox, "--", "sh", "-c", "exit 3")
	n.Try(t, "wait", done)
	tun := tunnels(t, n.Node, server)[0]
	dialEcho(t, tun.addr(), nil)
	// short may end at any moment.
	list := func() string { return strings.ReplaceAll(summary(t, n.Node), short+" exited", short+" running") }
	before := list()

	if err := n.Kill(); err != nil {
		t.Fatal(err)
	}
	if r := n.Try(t, "ls"); r.Code == 0 {
		t.Fatalf("brigd was killed and answers: %s", r)
	}
	time.Sleep(4 * time.Second) // short ends meanwhile
	started := time.Now()
	if err := n.Start(); err != nil {
		t.Fatal(err)
	}
	t.Logf("brigd was ready again after %v", time.Since(started))

	wantEnd(t, n.Node, short, 7, "exited")
	wantEnd(t, n.Node, done, 3, "exited")
	if got := n.Brig(t, "logs", short); got != "last words\n" {
		t.Errorf("logs of what ended meanwhile: %q", got)
	}
	if after := list(); before != after {
		t.Errorf("the list was\n%s\nand is\n%s", before, after)
	}
	again := tunnels(t, n.Node, server)
	if len(again) != 1 || again[0] != tun {
		t.Errorf("tunnels: %+v, were %+v", again, tun)
	}
	dialEcho(t, tun.addr(), nil)
	for _, id := range []string{server, writer} {
		if got := n.Brig(t, "exec", id, "--", "echo", "here"); got != "here\n" {
			t.Errorf("exec in %s: %q", id, got)
		}
	}
	var want strings.Builder
	for i := range 300 {
		fmt.Fprintf(&want, "line %d\n", i)
	}
	eventually(t, 30*time.Second, func() error {
		if got := n.Brig(t, "logs", writer); got != want.String() {
			return fmt.Errorf("%d bytes of %d in order", len(got), want.Len())
		}
		return nil
	})
	n.Brig(t, "rm", "--force", server, writer, short, done)
}

// summary is what must not change: ids, states, addresses, deadlines.
func summary(t *testing.T, n *node.Node) string {
	t.Helper()
	var list []struct{ ID, State, Address, Deadline string }
	if err := json.Unmarshal([]byte(n.Brig(t, "ls", "--all", "--json")), &list); err != nil {
		t.Fatal(err)
	}
	var rows []string
	for _, s := range list {
		rows = append(rows, strings.Join([]string{s.ID, s.State, s.Address, s.Deadline}, " "))
	}
	sort.Strings(rows)
	return strings.Join(rows, "\n")
}

// TestRestartOfContainerd kills containerd; brigd brings it back, and the
// sandboxes never noticed.
func TestRestartOfContainerd(t *testing.T) {
	t.Parallel()
	n := launch(t, node.Options{})
	server := n.Create(t, "--no-egress", "--port", "7/tcp", n.python, "--", "python3", "-c", echo)
	short := n.Create(t, n.busybox, "--", "sh", "-c", "sleep 3; exit 7")
	conn := dialEcho(t, tunnels(t, n.Node, server)[0].addr(), nil)
	kill(t, containerdOf(t, n.Node))
	if err := ping(conn); err != nil {
		t.Errorf("a tunnel's connection after containerd died: %v", err)
	}
	eventually(t, 30*time.Second, func() error {
		if r := n.Try(t, "exec", server, "--", "echo", "here"); r.Stdout != "here\n" {
			return fmt.Errorf("%s", r)
		}
		return nil
	})
	if err := ping(conn); err != nil {
		t.Errorf("a tunnel's connection after containerd was back: %v", err)
	}
	wantEnd(t, n.Node, short, 7, "exited")
	if r := n.Try(t, "run", n.busybox, "--", "echo", "new"); r.Stdout != "new\n" {
		t.Error(r)
	}
}

// TestDeathOfASandbox kills sentries and shims: the sandbox ends with a reason that tells
// it from a program that is killed, also if brigd was away, and its neighbour goes on.
func TestDeathOfASandbox(t *testing.T) {
	n := launch(t, node.Options{})
	neighbour := n.Create(t, n.busybox)
	classes := []string{"gvisor_sentry", "containerd-shim-brig-v1"}
	for _, class := range classes {
		id := n.Create(t, n.busybox)
		kill(t, processOf(t, class, id))
		wantEnd(t, n.Node, id, 137, "runtime_crash")
		n.Brig(t, "rm", id)
	}
	self := n.Create(t, n.busybox, "--", "sh", "-c", "kill -9 $$")
	wantEnd(t, n.Node, self, 137, "signal")
	n.Brig(t, "rm", self)
	away := map[string]string{}
	for _, class := range classes {
		away[class] = n.Create(t, n.busybox)
	}
	self = n.Create(t, n.busybox, "--", "sh", "-c", "sleep 2; kill -9 $$")
	if err := n.Kill(); err != nil {
		t.Fatal(err)
	}
	for class, id := range away {
		kill(t, processOf(t, class, id))
	}
	time.Sleep(3 * time.Second) // nobody looks
	if err := n.Start(); err != nil {
		t.Fatal(err)
	}
	for _, id := range away {
		wantEnd(t, n.Node, id, 137, "runtime_crash")
	}
	wantEnd(t, n.Node, self, 137, "signal")
	if got := n.Brig(t, "exec", neighbour, "--", "echo", "here"); got != "here\n" {
		t.Errorf("the neighbour: %q", got)
	}
}

// TestEndInOrder ends brigd under running sandboxes, twice.
func TestEndInOrder(t *testing.T) {
	n := launch(t, node.Options{})
	n.Create(t, n.busybox)
	n.Create(t, "--port", "80", n.busybox)
	if err := n.Terminate(); err != nil {
		t.Fatal(err)
	}
	if err := n.Start(); err != nil {
		t.Fatalf("started again: %v", err)
	}
	if r := n.Try(t, "run", n.busybox, "--", "echo", "again"); r.Stdout != "again\n" {
		t.Error(r)
	}
}

// TestTwoNodes runs two side by side; neither knows the other.
func TestTwoNodes(t *testing.T) {
	a := use(t)
	b := launch(t, node.Options{})
	inA := a.Create(t, "--name", "same", a.busybox)
	inB := b.Create(t, "--name", "same", b.busybox)
	for _, x := range []struct {
		f           *fixture
		mine, other string
	}{{a, inA, inB}, {b, inB, inA}} {
		if got := x.f.Brig(t, "exec", "same", "--", "echo", "here"); got != "here\n" {
			t.Errorf("exec: %q", got)
		}
		if ls := x.f.Brig(t, "ls"); !strings.Contains(ls, x.mine) || strings.Contains(ls, x.other) {
			t.Errorf("ls of the node with %s: %q", x.mine, ls)
		}
	}
	ca, cb := a.Brig(t, "node", "info", "--json"), b.Brig(t, "node", "info", "--json")
	if ca == cb {
		t.Errorf("both nodes say %s", ca)
	}
	if err := b.Stop(); err != nil {
		t.Error(err)
	}
	if got := a.Brig(t, "exec", "same", "--", "echo", "here"); got != "here\n" {
		t.Errorf("the first node after the second's end: %q", got)
	}
}

func kill(t *testing.T, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatalf("kill %d: %v", pid, err)
	}
}

// containerdOf finds the containerd that holds the node's socket.
func containerdOf(t *testing.T, n *node.Node) int {
	t.Helper()
	conn, err := new(net.Dialer).DialContext(t.Context(), "unix", n.Containerd())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	return peerPID(t, conn.(*net.UnixConn))
}

// processOf finds the process of a class whose command line names id.
func processOf(t *testing.T, class, id string) int {
	t.Helper()
	found, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range found {
		exe, _ := os.Readlink(filepath.Join(dir, "exe"))
		cmdline, _ := os.ReadFile(filepath.Join(dir, "cmdline"))
		if filepath.Base(exe) == class && strings.Contains(string(cmdline), id) {
			var pid int
			if _, err := fmt.Sscan(filepath.Base(dir), &pid); err == nil {
				return pid
			}
		}
	}
	t.Fatalf("no %s of %s", class, id)
	return 0
}

// TestKilledInCreate kills brigd at some point of a create and asks again, with
// the same key: there is one sandbox, it works, and nothing else is left.
func TestKilledInCreate(t *testing.T) {
	n := launch(t, node.Options{})
	before := holdings(t, n)
	for _, after := range []time.Duration{20, 60, 120, 180, 240, 320} {
		after *= time.Millisecond
		request := &brigv1.CreateRequest{RequestId: "killed-" + itoa(int(after)), Image: n.busybox}
		asked := make(chan struct{})
		go func() {
			defer close(asked)
			_, _ = n.Sandboxes.Create(t.Context(), connect.NewRequest(request))
		}()
		time.Sleep(after) // wherever that is
		if err := n.Kill(); err != nil {
			t.Fatal(err)
		}
		<-asked
		if err := n.Start(); err != nil {
			t.Fatalf("killed after %v: %v", after, err)
		}
		var id string
		eventually(t, 30*time.Second, func() error {
			made, err := n.Sandboxes.Create(t.Context(), connect.NewRequest(request))
			if err != nil {
				return err
			}
			id = made.Msg.GetSandbox().GetId()
			return nil
		})
		if r := n.Try(t, "exec", id, "--", "echo", "here"); r.Stdout != "here\n" {
			t.Errorf("killed after %v, asked again: %s", after, r)
		}
		if ls := n.Brig(t, "ls"); strings.Count(ls, "sb-") != 1 {
			t.Errorf("killed after %v, asked again: %s", after, ls)
		}
		n.Brig(t, "rm", "--force", id)
	}
	eventually(t, 30*time.Second, func() error {
		if now := containerdObjects(t, n.Node); now != before.containerd {
			return fmt.Errorf("containerd holds\n%s\nand held\n%s", now, before.containerd)
		}
		return nil
	})
	// brigd is another process now; everything else is as it was.
	eventually(t, census.Patience, func() error {
		now, err := census.Take()
		if err != nil {
			return err
		}
		for line := range strings.Lines(census.Diff(before.machine, now)) {
			if !strings.Contains(line, " process brigd ") {
				return fmt.Errorf("the machine is different: %s", line)
			}
		}
		return nil
	})
}

// TestBothKilled: neither brigd nor containerd is there, and both come back.
func TestBothKilled(t *testing.T) {
	t.Parallel()
	n := launch(t, node.Options{})
	id := n.Create(t, "--no-egress", "--port", "7/tcp", n.python, "--", "python3", "-c", echo)
	addr := tunnels(t, n.Node, id)[0].addr()
	dialEcho(t, addr, nil)
	containerd := containerdOf(t, n.Node)
	if err := n.Kill(); err != nil {
		t.Fatal(err)
	}
	kill(t, containerd)
	if err := n.Start(); err != nil {
		t.Fatal(err)
	}
	dialEcho(t, addr, nil)
	if got := n.Brig(t, "exec", id, "--", "echo", "here"); got != "here\n" {
		t.Errorf("exec: %q", got)
	}
}

// TestOneBrigdPerNode: a second one for the same directory ends at once and says
// why; the first does not notice.
func TestOneBrigdPerNode(t *testing.T) {
	t.Parallel()
	n := use(t)
	second := n.Command(t.Context(), filepath.Join(n.Bin, "brigd"), "--standalone", n.Dir)
	r := node.Run(t, second)
	if r.Code <= 0 || !strings.Contains(r.Stderr, "brigd: ") || strings.Contains(r.Stdout, "ready") {
		t.Errorf("a second brigd: %s", r)
	}
	if got := n.Brig(t, "run", "--block-network", n.busybox, "--", "echo", "here"); got != "here\n" {
		t.Errorf("the first: %q", got)
	}
}
