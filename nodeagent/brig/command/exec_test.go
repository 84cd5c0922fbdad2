package command_test

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"

	"brig/nodeagent/brig/command"

	brigv1 "brig/nodeagent/api/brig/v1"
	"github.com/containerd/console"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/durationpb"
)

func TestExec(t *testing.T) {
	n, socket := node(t)
	check(t, brig(t, socket, "ignored", "exec", "web", "--", "say", "out\n", "err\n", "4"), result{Status: 4, Out: "out\n", Err: "err\n"})
	check(t, brig(t, socket, "through\n", "exec", "-i", "--timeout", "3s", "--workdir", "/w", "--env", "A=b", "web", "cat"),
		result{Out: "through\n"})
	check(t, brig(t, socket, "", "exec", "--json", "web", "uname", "-a"), result{Out: `{
  "stdout": "uname -a\n",
  "stderr": "",
  "truncated": false,
  "exit": {
    "code": 0,
    "reason": "exited",
    "at": "2030-01-02T03:04:05Z"
  }
}
`})
	want := []*brigv1.ExecStart{
		{Exec: &brigv1.ExecSpec{Sandbox: "web", Argv: []string{"say", "out\n", "err\n", "4"}}},
		{Stdin: true, Exec: &brigv1.ExecSpec{Sandbox: "web", Argv: []string{"cat"},
			Timeout: durationpb.New(3e9), Workdir: "/w", Env: map[string]string{"A": "b"}}},
	}
	if diff := cmp.Diff(want, n.execs, protocmp.Transform()); diff != "" {
		t.Errorf("execs differ (-want +got):\n%s", diff)
	}
}

func TestExecPassesSignalsOn(t *testing.T) {
	_, socket := node(t)
	out, in := pipe(t)
	status := make(chan int, 1)
	go func() {
		status <- command.Main(t.Context(), command.Streams{In: strings.NewReader(""), Out: in, Err: &bytes.Buffer{}},
			[]string{"--socket", socket, "exec", "web", "await"})
	}()
	expectLine(t, out, "tty false 0x0")
	// Nothing tells when the handler is in place, so SIGUSR1 is ignored
	// otherwise and sent until it is heard.
	heard := make(chan struct{})
	go func() { expectLine(t, out, "signal 10"); close(heard) }()
	keepSending(unix.SIGUSR1, heard)
	if err := unix.Kill(os.Getpid(), unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if got := <-status; got != 143 {
		t.Errorf("status %d, expected 143", got)
	}
}

func TestExecOnATerminal(t *testing.T) {
	_, socket := node(t)
	pty, path, err := console.NewPty()
	if err != nil {
		t.Skipf("requirement: a pseudo-terminal (%v)", err)
	}
	defer pty.Close()
	tty, err := os.OpenFile(path, os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer tty.Close()
	if err := pty.Resize(console.WinSize{Width: 90, Height: 30}); err != nil {
		t.Fatal(err)
	}
	before := termios(t, tty)
	out, in := pipe(t)
	status := make(chan int, 1)
	go func() {
		status <- command.Main(t.Context(), command.Streams{In: tty, Out: in, Err: &bytes.Buffer{}},
			[]string{"--socket", socket, "exec", "-it", "web", "await"})
	}()
	expectLine(t, out, "tty true 90x30")
	expectLine(t, out, "resize 90x30")
	if termios(t, tty) == before {
		t.Error("the terminal is not raw while the program runs")
	}
	if err := pty.Resize(console.WinSize{Width: 100, Height: 40}); err != nil {
		t.Fatal(err)
	}
	heard := make(chan struct{})
	go func() { expectLine(t, out, "resize 100x40"); close(heard) }()
	keepSending(unix.SIGWINCH, heard)
	fmt.Fprint(pty, "q")
	if got := <-status; got != 7 {
		t.Errorf("status %d, expected 7", got)
	}
	if termios(t, tty) != before {
		t.Error("the terminal is not as it was before")
	}
}

func TestRunEndsAtASignal(t *testing.T) {
	n, socket := node(t)
	status := make(chan int, 1)
	ready, in := pipe(t)
	go func() {
		status <- command.Main(t.Context(), command.Streams{In: strings.NewReader(""), Out: in, Err: in},
			[]string{"--socket", socket, "run", "fresh", "--", "serve"})
	}()
	// The pull is told once the handler is in place.
	expectLine(t, ready, "pulling fresh")
	if line := readLine(t, ready); !strings.HasPrefix(line, "pulled ") {
		t.Fatalf("got %q", line)
	}
	for running := false; !running; {
		n.mu.Lock()
		running = len(n.sandboxes) == 2
		n.mu.Unlock()
	}
	if err := unix.Kill(os.Getpid(), unix.SIGINT); err != nil {
		t.Fatal(err)
	}
	// Either it was ended as a sandbox (143, the fake's answer to a grace
	// period), or the signal met the create and cancelled it.
	if got := <-status; got != 143 && got != 125 {
		t.Errorf("status %d, expected 143 or 125", got)
	}
}

func pipe(t *testing.T) (*bufio.Reader, *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(); w.Close() })
	return bufio.NewReader(r), w
}

func readLine(t *testing.T, r *bufio.Reader) string {
	line, err := r.ReadString('\n')
	if err != nil {
		t.Errorf("read a line: %v", err)
	}
	return strings.TrimSuffix(line, "\n")
}

// expectLine reads up to want; lines said before may repeat.
func expectLine(t *testing.T, r *bufio.Reader, want string) {
	line := readLine(t, r)
	if line != want {
		t.Errorf("line %q, expected %q", line, want)
	}
}

func termios(t *testing.T, f *os.File) unix.Termios {
	t.Helper()
	v, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	return *v
}
