package e2e

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	brigv1 "brig/nodeagent/api/brig/v1"
	"brig/tests/node"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"
)

// again starts another brigd in the place of one that is killed.
func again(t *testing.T, f *fixture) {
	t.Helper()
	if err := f.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := f.Start(); err != nil {
		t.Fatal(err)
	}
}

func startExec(t *testing.T, f *fixture, s *brigv1.ExecStart) {
	t.Helper()
	if _, err := f.Exec.Start(t.Context(), connect.NewRequest(s)); err != nil {
		t.Fatal(err)
	}
}

// readExec reads an exec from an offset of stdout on, at most so much; 0: to its end.
func readExec(t *testing.T, f *fixture, sandbox, id string, from, most uint64) (data []byte, exit *brigv1.Exit) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stream, err := f.Exec.Read(ctx, connect.NewRequest(&brigv1.ExecReadRequest{Sandbox: sandbox, ExecId: id, StdoutOffset: from, Follow: true}))
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	for stream.Receive() {
		if o := stream.Msg().GetOutput(); o.GetChannel() == brigv1.Channel_CHANNEL_STDOUT {
			if at := from + uint64(len(data)); o.GetOffset() != at {
				t.Fatalf("a piece at %d; want %d", o.GetOffset(), at)
			}
			data = append(data, o.GetData()...)
		}
		if most > 0 && uint64(len(data)) >= most {
			return data, nil
		}
		exit = stream.Msg().GetExit()
	}
	if err := stream.Err(); err != nil {
		t.Fatal(err)
	}
	return data, exit
}

func waitExec(t *testing.T, f *fixture, sandbox, id string) string {
	t.Helper()
	res, err := f.Exec.Wait(t.Context(), connect.NewRequest(&brigv1.ExecWaitRequest{Sandbox: sandbox, ExecId: id}))
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%d %s", res.Msg.GetExit().GetCode(), strings.ToLower(strings.TrimPrefix(res.Msg.GetExit().GetReason().String(), "REASON_")))
}

// TestExecSurvivesBrigd kills brigd twice while brig passes bytes through a program: each
// arrives once, both ways, and nothing is left of the exec.
func TestExecSurvivesBrigd(t *testing.T) {
	n := launch(t, node.Options{})
	id := n.Create(t, "--block-network", n.busybox)
	data := make([]byte, 256<<20)
	_, _ = rand.NewChaCha8([32]byte{5}).Read(data)
	want := sha256.Sum256(data)
	cmd := n.BrigCommand(t.Context(), "exec", "-i", id, "--", "cat")
	cmd.Stdin = bytes.NewReader(data)
	done := make(chan node.Result, 1)
	go func() { done <- node.Run(t, cmd) }()
	for range 2 {
		time.Sleep(700 * time.Millisecond) // wherever that is
		again(t, n)
	}
	r := <-done
	if r.Code != 0 || sha256.Sum256([]byte(r.Stdout)) != want {
		t.Errorf("status %d, %d bytes of %d, stderr %q", r.Code, len(r.Stdout), len(data), r.Stderr)
	}
}

// TestExecIsResumed reads 64 MiB in parts, from where the part before ended,
// with brigd killed between them; the program waits for its reader meanwhile.
func TestExecIsResumed(t *testing.T) {
	n := launch(t, node.Options{})
	id := n.Create(t, "--block-network", n.busybox)
	const line, size = "0123456789abcde\n", 64 << 20
	spec := &brigv1.ExecSpec{Sandbox: id, Argv: []string{"sh", "-c", fmt.Sprintf("yes 0123456789abcde | head -c %d; exit 7", size)}}
	start := &brigv1.ExecStart{Exec: spec, ExecId: "part", Overflow: brigv1.Overflow_OVERFLOW_BLOCK}
	startExec(t, n, start)
	var all []byte
	for range 2 {
		part, _ := readExec(t, n, id, "part", uint64(len(all)), 20<<20)
		all = append(all, part...)
		again(t, n)
		startExec(t, n, start) // whoever is in doubt says it again
	}
	part, exit := readExec(t, n, id, "part", uint64(len(all)), 0)
	all = append(all, part...)
	if sha256.Sum256(all) != sha256.Sum256([]byte(strings.Repeat(line, size/len(line)))) || exit.GetCode() != 7 {
		t.Errorf("%d bytes of %d, exit %v; want them all, and 7", len(all), size, exit)
	}
	again(t, n)
	if got := waitExec(t, n, id, "part"); got != "7 exited" {
		t.Errorf("after another restart: %s", got)
	}
	spec.Argv = []string{"true"}
	if _, err := n.Exec.Start(t.Context(), connect.NewRequest(start)); connect.CodeOf(err) != connect.CodeAlreadyExists {
		t.Errorf("another program with that id: %v", err)
	}
}

// TestExecStdinByOffset writes stdin as a client does that is never sure.
func TestExecStdinByOffset(t *testing.T) {
	n := launch(t, node.Options{})
	id := n.Create(t, "--block-network", n.busybox)
	startExec(t, n, &brigv1.ExecStart{Exec: &brigv1.ExecSpec{Sandbox: id, Argv: []string{"cat"}}, ExecId: "in", Stdin: true})
	write := func(offset uint64, data string, eof bool) (uint64, error) {
		res, err := n.Exec.Write(t.Context(), connect.NewRequest(&brigv1.ExecWriteRequest{Sandbox: id, ExecId: "in", Offset: offset, Data: []byte(data), Eof: eof}))
		if err != nil {
			return 0, err
		}
		return res.Msg.GetOffset(), nil
	}
	if at, err := write(0, "one ", false); at != 4 || err != nil {
		t.Fatal(at, err)
	}
	again(t, n)
	if at, err := write(0, "one two", false); at != 7 || err != nil {
		t.Fatal(at, err)
	}
	if _, err := write(9, "x", false); connect.CodeOf(err) != connect.CodeOutOfRange || !strings.Contains(err.Error(), "from 7") {
		t.Errorf("a gap: %v", err)
	}
	if at, err := write(7, "\n", true); at != 8 || err != nil {
		t.Fatal(at, err)
	}
	if got, exit := readExec(t, n, id, "in", 0, 0); string(got) != "one two\n" || exit.GetCode() != 0 {
		t.Errorf("%q, %v", got, exit)
	}
}

// TestExecTimeoutOverARestart: the time goes on while there is no brigd.
func TestExecTimeoutOverARestart(t *testing.T) {
	n := launch(t, node.Options{})
	id := n.Create(t, "--block-network", n.busybox)
	startExec(t, n, &brigv1.ExecStart{ExecId: "slow", Exec: &brigv1.ExecSpec{
		Sandbox: id, Argv: []string{"sleep", "600"}, Timeout: durationpb.New(2 * time.Second),
	}})
	if err := n.Kill(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(2 * time.Second)
	if err := n.Start(); err != nil {
		t.Fatal(err)
	}
	if got := waitExec(t, n, id, "slow"); got != "124 exec_timeout" {
		t.Errorf("got %s", got)
	}
}

// TestExecIsKept until its sandbox is removed, with the reason of the sandbox's end if that
// took it along.
func TestExecIsKept(t *testing.T) {
	t.Parallel()
	n := use(t)
	id := n.Create(t, "--block-network", n.busybox)
	startExec(t, n, &brigv1.ExecStart{ExecId: "said", Exec: &brigv1.ExecSpec{Sandbox: id, Argv: []string{"echo", "it"}}})
	startExec(t, n, &brigv1.ExecStart{ExecId: "slow", Exec: &brigv1.ExecSpec{Sandbox: id, Argv: []string{"sh", "-c", "echo first; sleep 600"}}})
	readExec(t, n, id, "slow", 0, 6)
	waitExec(t, n, id, "said")
	if _, err := n.Sandboxes.Terminate(t.Context(), connect.NewRequest(&brigv1.TerminateRequest{Sandbox: id})); err != nil {
		t.Fatal(err)
	}
	for exec, want := range map[string]string{"said": "it\n 0 exited", "slow": "first\n 137 terminated"} {
		data, _ := readExec(t, n, id, exec, 0, 0)
		if got := string(data) + " " + waitExec(t, n, id, exec); got != want {
			t.Errorf("%s: %q; want %q", exec, got, want)
		}
	}
	if r := n.Try(t, "exec", id, "--", "true"); r.Code != 125 || !strings.Contains(r.Stderr, "has ended") {
		t.Errorf("an exec in what has ended: %s", r)
	}
	n.Brig(t, "rm", id)
	_, err := n.Exec.Wait(t.Context(), connect.NewRequest(&brigv1.ExecWaitRequest{Sandbox: id, ExecId: "said"}))
	if connect.CodeOf(err) != connect.CodeNotFound {
		t.Errorf("of a removed sandbox: %v", err)
	}
}

// TestExecDetached by the command line, and gone on with.
func TestExecDetached(t *testing.T) {
	t.Parallel()
	n := use(t)
	id := n.Create(t, "--block-network", n.busybox)
	made := strings.TrimSpace(n.Brig(t, "exec", "-d", id, "--", "sh", "-c", "echo one; exit 5"))
	for range 2 {
		if r := n.Try(t, "exec", "--attach", made, id); r.Code != 5 || r.Stdout != "one\n" {
			t.Errorf("attached: %s", r)
		}
	}
	for range 2 {
		r := n.Try(t, "exec", "--exec-id", "mine", id, "--", "sh", "-c", "echo x >>/tmp/ran; cat /tmp/ran")
		if r.Code != 0 || r.Stdout != "x\n" {
			t.Errorf("with an id: %s", r)
		}
	}
}

// TestExecClientsGo leaves no descriptor and no program behind, whenever a client dies.
func TestExecClientsGo(t *testing.T) {
	n := launch(t, node.Options{})
	id := n.Create(t, "--block-network", n.busybox)
	shim := processOf(t, "containerd-shim-brig-v1", id)
	n.Brig(t, "exec", id, "--", "true")
	before := [2]int{len(openFiles(t, n.PID())), len(openFiles(t, shim))}
	for _, after := range []time.Duration{0, 10, 30, 100, 300} {
		for _, program := range []string{"exec yes", "exec cat", "exec sleep 4322"} {
			cmd := n.BrigCommand(t.Context(), "exec", "-i", id, "--", "sh", "-c", program)
			cmd.Stdin = endless{}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			time.Sleep(after * time.Millisecond) // wherever that is
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	}
	eventually(t, 30*time.Second, func() error {
		if now := [2]int{len(openFiles(t, n.PID())), len(openFiles(t, shim))}; now[0] > before[0] || now[1] > before[1] {
			return fmt.Errorf("brigd and shim have %v descriptors and had %v", now, before)
		}
		for _, program := range []string{"yes", "cat", "4322"} {
			if ps := n.Brig(t, "exec", id, "--", "ps", "-o", "args"); strings.Contains(ps, program) {
				return fmt.Errorf("left: %s", ps)
			}
		}
		return nil
	})
}

// endless is a stdin.
type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

// TestExecResize tells a program on a terminal its size.
func TestExecResize(t *testing.T) {
	t.Parallel()
	n := use(t)
	id := n.Create(t, "--block-network", n.busybox)
	startExec(t, n, &brigv1.ExecStart{
		ExecId: "tty", Tty: true, Size: &brigv1.WindowSize{Columns: 91, Rows: 31}, Stdin: true,
		Exec: &brigv1.ExecSpec{Sandbox: id, Argv: []string{"sh", "-c", "stty size; read x; stty size"}},
	})
	readExec(t, n, id, "tty", 0, 6)
	resize := &brigv1.ExecResizeRequest{Sandbox: id, ExecId: "tty", Size: &brigv1.WindowSize{Columns: 92, Rows: 32}}
	if _, err := n.Exec.Resize(t.Context(), connect.NewRequest(resize)); err != nil {
		t.Fatal(err)
	}
	if _, err := n.Exec.Write(t.Context(), connect.NewRequest(&brigv1.ExecWriteRequest{Sandbox: id, ExecId: "tty", Data: []byte("x\n")})); err != nil {
		t.Fatal(err)
	}
	if got, _ := readExec(t, n, id, "tty", 0, 0); !strings.HasPrefix(string(got), "31 91\r\n") || !strings.Contains(string(got), "32 92\r\n") {
		t.Errorf("the terminal's sizes: %q", got)
	}
}
