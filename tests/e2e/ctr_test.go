package e2e

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"brig/tests/image/oci"
	"brig/tests/node"
)

// ctrNamespace is a containerd user's own; brigd has nothing to do with it.
const ctrNamespace = "e2e"

const ctrImage = "brig.test/busybox:1"

// useCtr is use with the image imported by ctr, which is idempotent.
func useCtr(t *testing.T) *fixture {
	t.Helper()
	f := use(t)
	importForCtr(t, f.Node)
	return f
}

func importForCtr(t *testing.T, n *node.Node) {
	t.Helper()
	img, err := image(oci.Recipe{})
	if err != nil {
		t.Fatal(err)
	}
	archive := filepath.Join(t.TempDir(), "image.tar")
	if err := oci.WriteArchive(archive, ctrImage, img); err != nil {
		t.Fatal(err)
	}
	if r := n.Ctr(t, ctrNamespace, "image", "import", archive); r.Code != 0 {
		t.Fatal(r)
	}
}

// ctrRun is `ctr run --rm` with brig's runtime.
func ctrRun(t *testing.T, n *node.Node, flags []string, name string, argv ...string) node.Result {
	t.Helper()
	args := append([]string{"run", "--rm", "--runtime", "io.containerd.brig.v1"}, flags...)
	return n.Ctr(t, ctrNamespace, append(append(args, ctrImage, name), argv...)...)
}

// TestCtr is what a containerd user meets without anything else of brig.
func TestCtr(t *testing.T) {
	t.Parallel()
	n := useCtr(t)
	r := ctrRun(t, n.Node, nil, "ctr-1", "sh", "-c", "dmesg | head -n 1; echo err >&2; exit 3")
	if r.Code != 3 || !strings.Contains(r.Stdout, "gVisor") || !strings.Contains(r.Stderr, "err\n") {
		t.Error(r)
	}
	if r := ctrRun(t, n.Node, nil, "ctr-2", "/no/such/program"); r.Code == 0 || !strings.Contains(r.Stderr, "/no/such/program") {
		t.Errorf("a program that is not there: %s", r)
	}
	n.Ctr(t, ctrNamespace, "containers", "rm", "ctr-2")
}

// TestCtrShortPrograms would see a status that is lost, or a hang, when a program
// ends at once.
func TestCtrShortPrograms(t *testing.T) {
	t.Parallel()
	n := useCtr(t)
	for i := range 30 {
		r := ctrRun(t, n.Node, nil, "short-"+strconv.Itoa(i), "sh", "-c", "echo $0; exit $0", strconv.Itoa(i))
		if r.Code != i || r.Stdout != strconv.Itoa(i)+"\n" {
			t.Fatalf("want status %d and its echo: %s", i, r)
		}
	}
}

// TestCtrTerminal is `ctr run -t`.
func TestCtrTerminal(t *testing.T) {
	t.Parallel()
	n := useCtr(t)
	cmd := n.CtrCommand(t.Context(), ctrNamespace, "run", "--rm", "-t", "--runtime", "io.containerd.brig.v1", ctrImage, "tty", "/bin/sh")
	master, out := terminal(t, cmd, 30, 90)
	if _, err := io.WriteString(master, "sleep 0.5; test -t 0 && echo a terminal: $?; stty size; exit 5\n"); err != nil {
		t.Fatal(err)
	}
	out.expect(t, "a terminal: 0")
	out.expect(t, "30 90")
	if err := waitFor(cmd, 20*time.Second); err == nil || cmd.ProcessState.ExitCode() != 5 {
		t.Errorf("status %d, want 5; the terminal says\n%s", cmd.ProcessState.ExitCode(), out)
	}
}

// TestCtrDetached covers exec, kill and delete as separate calls.
func TestCtrDetached(t *testing.T) {
	t.Parallel()
	n := useCtr(t)
	must := func(args ...string) string {
		t.Helper()
		r := n.Ctr(t, ctrNamespace, args...)
		if r.Code != 0 {
			t.Fatal(r)
		}
		return r.Stdout
	}
	must("run", "-d", "--runtime", "io.containerd.brig.v1", ctrImage, "detached", "sleep", "1000")
	t.Cleanup(func() {
		n.Ctr(t, ctrNamespace, "tasks", "kill", "-s", "KILL", "detached")
		n.Ctr(t, ctrNamespace, "tasks", "rm", "-f", "detached")
		n.Ctr(t, ctrNamespace, "containers", "rm", "detached")
	})
	if out := must("tasks", "exec", "--exec-id", "e1", "detached", "echo", "from exec"); out != "from exec\n" {
		t.Errorf("exec: %q", out)
	}
	if r := n.Ctr(t, ctrNamespace, "tasks", "exec", "--exec-id", "e2", "detached", "sh", "-c", "exit 8"); r.Code != 8 {
		t.Errorf("exec's status: %s", r)
	}
	if list := must("tasks", "ls"); !strings.Contains(list, "RUNNING") {
		t.Errorf("tasks ls: %q", list)
	}
	must("tasks", "kill", "-s", "TERM", "detached")
	eventually(t, 10*time.Second, func() error {
		list := n.Ctr(t, ctrNamespace, "tasks", "ls").Stdout
		for line := range strings.Lines(list) {
			if strings.HasPrefix(line, "detached ") && strings.Contains(line, "STOPPED") {
				return nil
			}
		}
		return fmt.Errorf("tasks ls: %q", list)
	})
	if r := n.Ctr(t, ctrNamespace, "tasks", "rm", "detached"); r.Code != 0 && r.Code != 143 {
		t.Errorf("tasks rm: %s", r)
	}
}

// TestCtrEvents: what containerd's clients build on, in order, once each.
func TestCtrEvents(t *testing.T) {
	t.Parallel()
	n := useCtr(t)
	events := n.CtrCommand(t.Context(), ctrNamespace, "events")
	out, errPipe := events.StdoutPipe()
	if errPipe != nil {
		t.Fatal(errPipe)
	}
	if err := events.Start(); err != nil {
		t.Fatal(err)
	}
	seen := &lines{}
	go seen.read(out)
	defer func() { _ = events.Process.Kill(); _ = events.Wait() }()
	// ctr says nothing when it listens; an event of no consequence tells.
	eventually(t, 10*time.Second, func() error {
		n.Ctr(t, ctrNamespace, "images", "label", ctrImage, "listening="+strconv.Itoa(int(time.Now().UnixNano())))
		if seen.String() == "" {
			return errString("ctr events does not listen yet")
		}
		return nil
	})
	must := func(args ...string) {
		t.Helper()
		if r := n.Ctr(t, ctrNamespace, args...); r.Code != 0 {
			t.Fatal(r)
		}
	}
	must("run", "-d", "--runtime", "io.containerd.brig.v1", ctrImage, "events", "sh", "-c", "while [ ! -e /tmp/go ]; do sleep 0.1; done")
	must("tasks", "exec", "--exec-id", "e1", "events", "touch", "/tmp/go")
	want := []string{"create", "start", "exec-added", "exec-started", "exit", "exit", "delete"}
	t.Cleanup(func() {
		n.Ctr(t, ctrNamespace, "tasks", "rm", "-f", "events")
		n.Ctr(t, ctrNamespace, "containers", "rm", "events")
	})
	topics := func() []string {
		var got []string
		for line := range strings.Lines(seen.String()) {
			// date time zone zone namespace topic payload
			_, rest, ok := strings.Cut(line, " /tasks/")
			topic, payload, _ := strings.Cut(rest, " ")
			if ok && strings.Contains(payload, `"events"`) && topic != "exec-deleted" {
				got = append(got, topic)
			}
		}
		return got
	}
	eventually(t, 10*time.Second, func() error {
		if got := topics(); len(got) < len(want)-1 {
			return fmt.Errorf("events: %v", got)
		}
		return nil
	})
	n.Ctr(t, ctrNamespace, "tasks", "rm", "events")
	eventually(t, 10*time.Second, func() error {
		if got := topics(); !slices.Equal(got, want) {
			return fmt.Errorf("events %v, want %v in\n%s", got, want, seen)
		}
		return nil
	})
}

// TestCtrAnnotations: what brig can enforce it does, what it does not know it refuses.
func TestCtrAnnotations(t *testing.T) {
	t.Parallel()
	n := useCtr(t)
	r := ctrRun(t, n.Node, []string{"--annotation", "brig/block-network=true"}, "blocked", "ip", "-o", "link")
	if r.Code != 0 || !strings.Contains(r.Stdout, "lo:") || strings.Count(r.Stdout, "\n") != 1 {
		t.Errorf("block-network leaves other links than lo: %s", r)
	}
	for annotation, want := range map[string]string{
		"brig/block-netwrok=true":           "brig/block-netwrok",
		"brig/cidr-allowlist=not-an-ip/8":   "Invalid CIDR: not-an-ip/8",
		"brig/cidr-allowlist=10.0.0.0/8":    "10.0.0.0/8",
		"brig/block-network=yes please":     "yes please",
		"brig/domain-allowlist=example.com": "ctr run --cni",
	} {
		r := ctrRun(t, n.Node, []string{"--annotation", annotation}, "refused", "true")
		if r.Code == 0 || !strings.Contains(r.Stderr, want) {
			t.Errorf("%s: want a refusal that contains %q: %s", annotation, want, r)
		}
		n.Ctr(t, ctrNamespace, "containers", "rm", "refused")
	}
	if r := ctrRun(t, n.Node, []string{"--net-host"}, "host", "true"); r.Code == 0 {
		t.Errorf("the host's network was given: %s", r)
	}
	n.Ctr(t, ctrNamespace, "containers", "rm", "host")
}

// cniScript runs its arguments where ctr --cni finds brig's network: ctr knows
// /etc/cni/net.d and /opt/cni/bin only, so both are shown to it in a mount
// namespace of its own and the machine keeps its own.
const cniScript = `set -e
mount --make-rslave /
for d in etc opt; do
  mkdir -p "$SCRATCH/$d/up" "$SCRATCH/$d/work"
  mount -t overlay overlay -o "lowerdir=/$d,upperdir=$SCRATCH/$d/up,workdir=$SCRATCH/$d/work" /$d
done
rm -rf /etc/cni /opt/cni
mkdir -p /etc/cni/net.d /opt/cni/bin
cp "$CONF"/* /etc/cni/net.d/
cp "$BIN/brig-cni" /opt/cni/bin/
exec "$@"`

// ctrCNI is ctrRun with --cni.
func ctrCNI(t *testing.T, n *node.Node, flags []string, name string, argv ...string) node.Result {
	t.Helper()
	return ctrCNIOf(t, n, ctrImage, flags, name, argv...)
}

// ctrCNIOf is ctrCNI of another image.
func ctrCNIOf(t *testing.T, n *node.Node, image string, flags []string, name string, argv ...string) node.Result {
	t.Helper()
	c, err := n.Config()
	if err != nil {
		t.Fatal(err)
	}
	scratch, err := os.MkdirTemp(n.Dir, "cni-") // overlayfs wants no overlay or tmpfs of the test's below it
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(scratch)
	args := append([]string{"unshare", "--mount", "--propagation", "unchanged", "--", "sh", "-c", cniScript, "sh",
		filepath.Join(n.Bin, "deps", "ctr"), "--address", n.Containerd(), "--namespace", ctrNamespace,
		"run", "--rm", "--cni", "--runtime", "io.containerd.brig.v1"}, flags...)
	cmd := n.Command(t.Context(), append(append(args, image, name), argv...)...)
	cmd.Env = append(n.Env(), "SCRATCH="+scratch, "CONF="+c.CNI.ConfDir, "BIN="+n.Bin)
	return node.Run(t, cmd)
}
