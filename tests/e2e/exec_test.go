package e2e

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"math/rand/v2"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	brigv1 "brig/nodeagent/api/brig/v1"
	"brig/tests/node"

	"connectrpc.com/connect"
	"github.com/containerd/console"
	"google.golang.org/protobuf/types/known/durationpb"
)

// TestExec covers codes, signals, streams, timeout and a program that is not there.
func TestExec(t *testing.T) {
	t.Parallel()
	n := use(t)
	id := n.Create(t, n.busybox)
	for _, tc := range []struct {
		flags          []string
		argv           []string
		stdout, stderr string
		code           int
	}{
		{argv: []string{"sh", "-c", "echo out; echo err >&2; exit 9"}, stdout: "out\n", stderr: "err\n", code: 9},
		{argv: []string{"sh", "-c", "kill -TERM $$"}, code: 143},
		{argv: []string{"sh", "-c", "kill -KILL $$"}, code: 137},
		{argv: []string{"cat"}}, // its stdin is empty
		{argv: []string{"echo", "-n", "a  b", "", "*", "$HOME"}, stdout: "a  b  * $HOME"},
		{flags: []string{"--timeout", "1s"}, argv: []string{"sleep", "60"}, code: 124, stderr: "timeout"},
	} {
		r := n.Try(t, append(append(append([]string{"exec"}, tc.flags...), id, "--"), tc.argv...)...)
		if r.Code != tc.code || r.Stdout != tc.stdout || !strings.Contains(r.Stderr, tc.stderr) {
			t.Errorf("want status %d, stdout %q, stderr with %q; got %s", tc.code, tc.stdout, tc.stderr, r)
		}
	}
	r := n.Try(t, "exec", id, "--", "/no/such/program")
	if r.Code == 0 || !strings.Contains(r.Stderr, "/no/such/program") {
		t.Errorf("want a failure that names the program: %s", r)
	}
	if r := n.Try(t, "exec", id, "--", "true"); r.Code != 0 {
		t.Errorf("the sandbox after all that: %s", r)
	}
}

// TestExecJSON is the unary form.
func TestExecJSON(t *testing.T) {
	t.Parallel()
	n := use(t)
	id := n.Create(t, n.busybox)
	r := n.Try(t, "exec", "--json", id, "--", "sh", "-c", "echo out; echo err >&2; exit 5")
	var got struct {
		Stdout, Stderr string
		Truncated      bool
		Exit           struct {
			Code   int
			Reason string
		}
	}
	if err := json.Unmarshal([]byte(r.Stdout), &got); err != nil {
		t.Fatalf("%v: %s", err, r)
	}
	if r.Code != 5 || got.Stdout != "out\n" || got.Stderr != "err\n" || got.Truncated || got.Exit.Code != 5 || got.Exit.Reason != "exited" {
		t.Errorf("%+v: %s", got, r)
	}
}

// TestExecBounded keeps what fits and says that there was more.
func TestExecBounded(t *testing.T) {
	t.Parallel()
	n := use(t)
	id := n.Create(t, n.busybox)
	res, err := n.Exec.Run(t.Context(), connect.NewRequest(&brigv1.ExecRunRequest{
		Exec:      &brigv1.ExecSpec{Sandbox: id, Argv: []string{"sh", "-c", "yes | head -c 100000; echo short >&2"}},
		MaxOutput: 1000,
	}))
	if err != nil {
		t.Fatal(err)
	}
	if m := res.Msg; len(m.GetStdout()) != 1000 || !m.GetTruncated() || string(m.GetStderr()) != "short\n" || m.GetExit().GetCode() != 0 {
		t.Errorf("%d bytes of stdout, truncated %v, stderr %q, exit %v", len(m.GetStdout()), m.GetTruncated(), m.GetStderr(), m.GetExit())
	}
	res, err = n.Exec.Run(t.Context(), connect.NewRequest(&brigv1.ExecRunRequest{
		Exec: &brigv1.ExecSpec{Sandbox: id, Argv: []string{"sleep", "60"}, Timeout: durationpb.New(time.Second)},
	}))
	if err != nil {
		t.Fatal(err)
	}
	if e := res.Msg.GetExit(); e.GetCode() != 124 || e.GetReason() != brigv1.Reason_REASON_EXEC_TIMEOUT {
		t.Errorf("exit %v, want 124 by exec_timeout", e)
	}
}

// TestExecStdin passes 8 MiB through cat and its checksum back.
func TestExecStdin(t *testing.T) {
	t.Parallel()
	n := use(t)
	id := n.Create(t, n.busybox)
	data := make([]byte, 8<<20)
	_, _ = rand.NewChaCha8([32]byte{2}).Read(data)
	sum := sha256.Sum256(data)
	cmd := n.BrigCommand(t.Context(), "exec", "-i", id, "--", "sha256sum")
	cmd.Stdin = bytes.NewReader(data)
	if r := node.Run(t, cmd); r.Code != 0 || r.Stdout != hex.EncodeToString(sum[:])+"  -\n" {
		t.Errorf("want %x: %s", sum, r)
	}
	cmd = n.BrigCommand(t.Context(), "exec", "-i", id, "--", "cat")
	cmd.Stdin = bytes.NewReader(data)
	if r := node.Run(t, cmd); r.Code != 0 || sha256.Sum256([]byte(r.Stdout)) != sum {
		t.Errorf("cat: status %d, %d bytes of %d, stderr %q", r.Code, len(r.Stdout), len(data), r.Stderr)
	}
}

// TestExecManyAtOnce runs them side by side, each with its own status.
func TestExecManyAtOnce(t *testing.T) {
	t.Parallel()
	n := use(t)
	id := n.Create(t, n.busybox)
	const many = 20
	codes := make(chan [2]int, many)
	for i := range many {
		go func() {
			res, err := n.Exec.Run(t.Context(), connect.NewRequest(&brigv1.ExecRunRequest{
				Exec: &brigv1.ExecSpec{Sandbox: id, Argv: []string{"sh", "-c", "exit $CODE"}, Env: map[string]string{"CODE": itoa(i)}},
			}))
			if err != nil {
				t.Error(err)
				codes <- [2]int{i, -1}
				return
			}
			codes <- [2]int{i, int(res.Msg.GetExit().GetCode())}
		}()
	}
	for range many {
		if got := <-codes; got[0] != got[1] {
			t.Errorf("exec %d ended with %d", got[0], got[1])
		}
	}
}

// TestExecClientGone kills the program of a client that goes away.
func TestExecClientGone(t *testing.T) {
	t.Parallel()
	n := use(t)
	id := n.Create(t, n.busybox)
	cmd := n.BrigCommand(t.Context(), "exec", id, "--", "sleep", "4321")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	running := func() bool { return strings.Contains(n.Brig(t, "exec", id, "--", "ps", "-o", "args"), "sleep 4321") }
	eventually(t, 10*time.Second, func() error {
		if !running() {
			return errString("sleep does not run")
		}
		return nil
	})
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	eventually(t, 10*time.Second, func() error {
		if running() {
			return errString("sleep outlives its client")
		}
		return nil
	})
}

type errString string

func (e errString) Error() string { return string(e) }

// terminal runs cmd on a new pseudoterminal of the given size.
func terminal(t *testing.T, cmd *exec.Cmd, rows, columns uint16) (console.Console, *lines) {
	t.Helper()
	master, slavePath, err := console.NewPty()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = master.Close() })
	if err := master.Resize(console.WinSize{Height: rows, Width: columns}); err != nil {
		t.Fatal(err)
	}
	slave, err := openTTY(slavePath)
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = slave.Close()
	out := &lines{}
	go out.read(master)
	return master, out
}

// TestExecTerminal talks to a shell: sizes, a resize, an interrupt, its status.
func TestExecTerminal(t *testing.T) {
	t.Parallel()
	n := use(t)
	id := n.Create(t, n.busybox)
	cmd := n.BrigCommand(t.Context(), "exec", "-it", id, "--", "/bin/sh")
	master, out := terminal(t, cmd, 33, 101)
	say := func(line string) {
		if _, err := io.WriteString(master, line); err != nil {
			t.Fatal(err)
		}
	}
	say("stty size; test -t 0 -a -t 1 -a -t 2 && echo a terminal: $?\n")
	out.expect(t, "33 101")
	out.expect(t, "a terminal: 0")
	if err := master.Resize(console.WinSize{Height: 44, Width: 155}); err != nil {
		t.Fatal(err)
	}
	eventually(t, 10*time.Second, func() error {
		say("stty size\n")
		time.Sleep(100 * time.Millisecond)
		if !strings.Contains(out.String(), "44 155") {
			return errString("the terminal keeps its old size: " + out.String())
		}
		return nil
	})
	say("sleep 4000\n")
	out.expect(t, "sleep 4000")
	eventually(t, 10*time.Second, func() error {
		if !strings.Contains(n.Brig(t, "exec", id, "--", "ps", "-o", "args"), "\nsleep 4000") {
			return errString("the shell has not started it")
		}
		return nil
	})
	say("\x03")
	say("echo status $?; exit 7\n")
	out.expect(t, "status 130")
	if err := waitFor(cmd, 10*time.Second); err == nil || cmd.ProcessState.ExitCode() != 7 {
		t.Errorf("status %d, want 7; the terminal says:\n%s", cmd.ProcessState.ExitCode(), out)
	}
}
