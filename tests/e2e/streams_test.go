package e2e

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	brigv1 "brig/nodeagent/api/brig/v1"
	"brig/tests/node"

	"connectrpc.com/connect"
	"github.com/containerd/console"
	"golang.org/x/sys/unix"
)

var long = flag.Bool("long", false, "a gigabyte where a quarter does otherwise")

// counting is a program that writes so many blocks of blockBytes, each full of its number,
// so that no byte can be lost, repeated or moved unseen.
const (
	blockBytes = 64 << 10
	counting   = "import os, sys\n" +
		"for i in range(int(sys.argv[1])):\n" +
		"    block = i.to_bytes(8, 'big') * 8192\n" +
		"    while block: block = block[os.write(1, block):]\n"
)

// counted checks that data is what counting writes from offset on.
func counted(offset uint64, data []byte) error {
	var word [8]byte
	for i := range data {
		at := offset + uint64(i)
		if i == 0 || at%blockBytes == 0 {
			binary.BigEndian.PutUint64(word[:], at/blockBytes)
		}
		if data[i] != word[at%8] {
			return fmt.Errorf("byte %d is %#x; want %#x", at, data[i], word[at%8])
		}
	}
	return nil
}

// readOutput follows stdout from *offset to total, checking every byte, and moves *offset.
// Before each piece it calls before, which may be nil.
func readOutput(ctx context.Context, c node.Client, id string, offset *uint64, total uint64, before func()) error {
	stream, err := c.Sandboxes.ReadOutput(ctx, connect.NewRequest(&brigv1.ReadOutputRequest{Sandbox: id, StdoutOffset: *offset, Follow: true}))
	if err != nil {
		return err
	}
	defer stream.Close()
	for *offset < total && stream.Receive() {
		if before != nil {
			before()
		}
		m := stream.Msg()
		if m.GetOffset() != *offset {
			return fmt.Errorf("a piece at %d; want %d", m.GetOffset(), *offset)
		}
		if err := counted(*offset, m.GetData()); err != nil {
			return err
		}
		*offset += uint64(len(m.GetData()))
	}
	return stream.Err()
}

// TestOutputOverAKilledBrigd reads all that a program writes while brigd is killed in its
// midst: not a byte is lost, though much more is written than is kept.
func TestOutputOverAKilledBrigd(t *testing.T) {
	n := launch(t, node.Options{Overrides: "[sandboxes]\njournal_bytes = 16777216\n"})
	total := uint64(256 << 20)
	if *long {
		total = 1 << 30
	}
	id := n.Create(t, "--block-network", "--timeout", "1h", "--overflow", "block", n.python, "--", "python3", "-c", counting, fmt.Sprint(total/blockBytes))
	var offset uint64
	for kills := 1; kills <= 2; kills++ {
		err := readOutput(t.Context(), n.Client, id, &offset, total, func() {
			if offset > total*uint64(kills)/3 && n.PID() > 0 {
				if err := n.Kill(); err != nil {
					t.Error(err)
				}
			}
		})
		if err == nil {
			t.Fatalf("the stream went on when brigd was killed, to %d", offset)
		}
		t.Logf("killed at %d of %d: %v", offset, total, err)
		if err := n.Start(); err != nil {
			t.Fatal(err)
		}
	}
	if err := readOutput(t.Context(), n.Client, id, &offset, total+1, nil); err != nil || offset != total {
		t.Errorf("read %d of %d, %v", offset, total, err)
	}
	wantEnd(t, n.Node, id, 0, "exited")
}

// TestClientThatStopsReading makes its own program wait and nobody else, and leaves no
// descriptor behind. Another client goes on where it stopped.
func TestClientThatStopsReading(t *testing.T) {
	n := launch(t, node.Options{Overrides: "[sandboxes]\njournal_bytes = 16777216\n"})
	const total = 96 << 20
	id := n.Create(t, "--block-network", "--overflow", "block", n.python, "--", "python3", "-c", counting, fmt.Sprint(total/blockBytes))
	neighbour := n.Create(t, "--block-network", n.busybox)
	c, err := n.Config()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(c.JournalDir(id), "stdout")
	n.Brig(t, "exec", neighbour, "--", "true")
	fds := openFiles(t, n.PID())

	ctx, cancel := context.WithCancel(t.Context())
	stream, err := n.Sandboxes.ReadOutput(ctx, connect.NewRequest(&brigv1.ReadOutputRequest{Sandbox: id, Follow: true}))
	if err != nil {
		t.Fatal(err)
	}
	if !stream.Receive() {
		t.Fatal(stream.Err())
	}
	size := settled(t, path)
	if size >= total {
		t.Errorf("the program wrote all %d bytes, though nobody reads", size)
	}
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil || st.Blocks*512 > 17<<20 {
		t.Errorf("%d bytes of disk for a journal of 16 MiB, %v", st.Blocks*512, err)
	}
	if got := n.Brig(t, "exec", neighbour, "--", "echo", "here"); got != "here\n" {
		t.Errorf("the neighbour says %q", got)
	}
	if got := n.Brig(t, "exec", id, "--", "echo", "here"); got != "here\n" {
		t.Errorf("another program of the sandbox says %q", got)
	}
	cancel()
	_ = stream.Close()
	// What was sent counts as read, but for the last 8 MiB; the client has read less.
	offset := uint64(0)
	if err := readOutput(t.Context(), n.GRPC(), id, &offset, total, nil); err != nil || offset != total {
		t.Errorf("another client read %d of %d, %v", offset, total, err)
	}
	wantEnd(t, n.Node, id, 0, "exited")
	eventually(t, 10*time.Second, func() error {
		if now := openFiles(t, n.PID()); len(now) > len(fds) {
			return fmt.Errorf("brigd has %d files open, had %d before:\n%s", len(now), len(fds), strings.Join(now, "\n"))
		}
		return nil
	})
}

// settled is the size of a file that no longer grows.
func settled(t *testing.T, path string) (size int64) {
	t.Helper()
	for same := 0; same < 10; time.Sleep(50 * time.Millisecond) {
		fi, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if same++; fi.Size() != size || size == 0 {
			same, size = 0, fi.Size()
		}
	}
	return size
}

// openFiles of a process, but for sockets, which clients keep open.
func openFiles(t *testing.T, pid int) (list []string) {
	t.Helper()
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if to, err := os.Readlink(filepath.Join(dir, e.Name())); err == nil && !strings.HasPrefix(to, "socket:") {
			list = append(list, to)
		}
	}
	return list
}

// TestStdinOverAKilledBrigd sends a stdin in pieces, each of which may be sent twice, to a
// brigd that is killed in its midst. cat sends it back: not a byte is lost or repeated.
func TestStdinOverAKilledBrigd(t *testing.T) {
	n := launch(t, node.Options{})
	total := uint64(24 << 20)
	if *long {
		total = 256 << 20
	}
	id := n.Create(t, "--block-network", "--timeout", "1h", "-i", "--overflow", "block", n.busybox, "--", "cat")
	back := make(chan error, 1)
	go func() {
		var offset uint64
		for deadline := time.Now().Add(2 * time.Minute); offset < total; {
			err := readOutput(t.Context(), n.Client, id, &offset, total+1, nil)
			if offset == total || time.Now().After(deadline) || connect.CodeOf(err) == connect.CodeDataLoss {
				break
			}
			time.Sleep(50 * time.Millisecond)
		}
		if offset != total {
			back <- fmt.Errorf("%d of %d came back", offset, total)
		}
		back <- nil
	}()
	all := make([]byte, 0, total)
	for i := range total / blockBytes {
		all = append(all, bytes.Repeat(binary.BigEndian.AppendUint64(nil, i), 8192)...)
	}
	kills := uint64(1)
	for offset, end := uint64(0), uint64(0); offset < total; {
		end = min(total, offset+300_000)
		write := func() (uint64, error) {
			answer, err := n.Sandboxes.WriteInput(t.Context(), connect.NewRequest(&brigv1.WriteInputRequest{
				Sandbox: id, Offset: offset, Data: all[offset:end], Eof: end == total,
			}))
			if err != nil {
				return 0, err
			}
			return answer.Msg.GetOffset(), nil
		}
		if kills < 3 && offset > total*kills/3 {
			kills++
			go func() { _, _ = write() }() // nobody hears what becomes of it
			if err := errors.Join(n.Kill(), n.Start()); err != nil {
				t.Fatal(err)
			}
		}
		acknowledged, err := write()
		if err != nil || acknowledged != end {
			t.Fatalf("at %d: acknowledged %d, %v; want %d", offset, acknowledged, err, end)
		}
		offset = acknowledged
	}
	if err := <-back; err != nil {
		t.Error(err)
	}
	wantEnd(t, n.Node, id, 0, "exited")
}

// Write adds what a command says.
func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

// TestStdinHalfWritten: a client that dies in the midst of a line, and one that goes on.
func TestStdinHalfWritten(t *testing.T) {
	t.Parallel()
	n := use(t)
	id := n.Create(t, "--block-network", "-i", n.busybox, "--", "sh", "-c", "while read line; do echo got $line; done; echo end")
	write := func(offset uint64, data string, eof bool) (uint64, error) {
		answer, err := n.Sandboxes.WriteInput(t.Context(), connect.NewRequest(&brigv1.WriteInputRequest{Sandbox: id, Offset: offset, Data: []byte(data), Eof: eof}))
		if err != nil {
			return 0, err
		}
		return answer.Msg.GetOffset(), nil
	}
	if _, err := write(0, "one\ntw", false); err != nil {
		t.Fatal(err)
	}
	_, err := write(7, "x", false)
	if connect.CodeOf(err) != connect.CodeOutOfRange || !strings.Contains(err.Error(), "go on from offset 6") {
		t.Errorf("a gap: %v", err)
	}
	offset, err := write(0, "", false) // where was I?
	if err != nil || offset != 6 {
		t.Fatalf("%d, %v; want 6", offset, err)
	}
	if offset, err = write(6, "o\n", true); err != nil || offset != 8 {
		t.Fatalf("%d, %v; want 8", offset, err)
	}
	if r := n.Try(t, "wait", id); r.Code != 0 {
		t.Error(r)
	}
	if got, want := n.Brig(t, "logs", id), "got one\ngot two\nend\n"; got != want {
		t.Errorf("%q; want %q", got, want)
	}
	if _, err := write(8, "more", false); connect.CodeOf(err) != connect.CodeFailedPrecondition {
		t.Errorf("after the end: %v", err)
	}
}

// TestRunOverARestartOfBrigd: brig run -i and brig logs -f go on while brigd is killed and
// started again, and the program never knows.
func TestRunOverARestartOfBrigd(t *testing.T) {
	n := launch(t, node.Options{})
	cmd := n.BrigCommand(t.Context(), "run", "-i", "--name", "talk", "--block-network", n.busybox, "--", "sh", "-c",
		"while read line; do echo got $line; done; echo end; exit 3")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	var stdout, stderr lines
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	say := func(line string) {
		t.Helper()
		if _, err := io.WriteString(stdin, line+"\n"); err != nil {
			t.Fatal(err)
		}
	}
	say("one")
	stdout.expect(t, "got one\n")
	logs := n.BrigCommand(t.Context(), "logs", "-f", "talk")
	var logged lines
	logs.Stdout, logs.Stderr = &logged, &logged
	if err := logs.Start(); err != nil {
		t.Fatal(err)
	}
	logged.expect(t, "got one\n")
	for i := range 2 {
		if err := n.Kill(); err != nil {
			t.Fatal(err)
		}
		say("while it is away " + itoa(i))
		if err := n.Start(); err != nil {
			t.Fatal(err)
		}
		stdout.expect(t, "got while it is away "+itoa(i)+"\n")
	}
	if err := stdin.Close(); err != nil {
		t.Fatal(err)
	}
	if err := waitFor(cmd, 20*time.Second); cmd.ProcessState.ExitCode() != 3 {
		t.Errorf("run: %v; want status 3; stderr:\n%s", err, stderr.String())
	}
	const want = "got one\ngot while it is away 0\ngot while it is away 1\nend\n"
	if got := stdout.String(); got != want {
		t.Errorf("run shows %q; want %q", got, want)
	}
	if err := waitFor(logs, 20*time.Second); err != nil || logged.String() != want {
		t.Errorf("logs: %v, %q; want %q", err, logged.String(), want)
	}
}

// TestEntrypointTerminal talks to a shell that is the sandbox's own program, as brig run
// -it does: sizes, a resize, an interrupt, binary bytes, its status.
func TestEntrypointTerminal(t *testing.T) {
	t.Parallel()
	n := use(t)
	const name = "e2e-entrypoint-tty"
	cmd := n.BrigCommand(t.Context(), "run", "-it", "--name", name, "--block-network", n.busybox, "--", "/bin/sh")
	master, out := terminal(t, cmd, 33, 101)
	say := func(line string) {
		if _, err := io.WriteString(master, line); err != nil {
			t.Fatal(err)
		}
	}
	say("stty size; test -t 0 -a -t 1 -a -t 2 && echo a terminal: $?; echo $TERM\n")
	out.expect(t, "33 101")
	out.expect(t, "a terminal: 0")
	out.expect(t, "xterm")
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
		if !strings.Contains(n.Brig(t, "exec", name, "--", "ps", "-o", "args"), "\nsleep 4000") {
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

// TestAttach finds a program that another command made, talks to it and leaves it.
func TestAttach(t *testing.T) {
	t.Parallel()
	n := use(t)
	id := n.Create(t, "--block-network", "-i", n.busybox, "--", "sh", "-c", "echo ready; while read line; do echo got $line; done; exit 5")
	attach := func(stdin io.Reader) (*exec.Cmd, *lines) {
		cmd := n.BrigCommand(t.Context(), "attach", id)
		var out lines
		cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, &out, &out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		return cmd, &out
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	first, out := attach(r)
	if _, err := io.WriteString(w, "one\n"); err != nil {
		t.Fatal(err)
	}
	out.expect(t, "ready\ngot one\n")
	if err := first.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = first.Wait()
	w.Close()
	second, out := attach(strings.NewReader("two\n"))
	if err := waitFor(second, 20*time.Second); second.ProcessState.ExitCode() != 5 || out.String() != "ready\ngot one\ngot two\n" {
		t.Errorf("%v, %q; want status 5", err, out.String())
	}
}

// TestFullDiskUnderJournals: on a full disk one that drops goes on and shows what it lost
// by its offsets, and one that blocks waits for space and loses nothing.
func TestFullDiskUnderJournals(t *testing.T) {
	var disk string
	n := launch(t, node.Options{Prepare: func(n *node.Node) error {
		disk = filepath.Join(n.Dir, "state", "sandboxes")
		if err := os.MkdirAll(disk, 0o700); err != nil {
			return err
		}
		return unix.Mount("tmpfs", disk, "tmpfs", 0, "size=24m")
	}})
	const total = 64 << 20
	count := fmt.Sprint(total / blockBytes)
	drops := n.Create(t, "--block-network", n.python, "--", "python3", "-c", "import time; time.sleep(6)\n"+counting, count)
	blocks := n.Create(t, "--block-network", "--overflow", "block", n.python, "--", "python3", "-c", counting, count)
	settled(t, filepath.Join(disk, blocks, "stdout")) // it has taken all there is
	wantEnd(t, n.Node, drops, 0, "exited")
	stream, err := n.Sandboxes.ReadOutput(t.Context(), connect.NewRequest(&brigv1.ReadOutputRequest{Sandbox: drops}))
	if err != nil {
		t.Fatal(err)
	}
	var end uint64
	for stream.Receive() {
		if err := counted(stream.Msg().GetOffset(), stream.Msg().GetData()); err != nil {
			t.Fatal(err)
		}
		end = stream.Msg().GetOffset() + uint64(len(stream.Msg().GetData()))
	}
	if stream.Err() != nil || end != total {
		t.Errorf("the stream ends at %d, %v; want %d, kept or not", end, stream.Err(), total)
	}
	n.Brig(t, "rm", drops)
	var offset uint64
	if err := readOutput(t.Context(), n.Client, blocks, &offset, total+1, nil); err != nil || offset != total {
		t.Errorf("read %d of %d, %v", offset, total, err)
	}
	wantEnd(t, n.Node, blocks, 0, "exited")
}
