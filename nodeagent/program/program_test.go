package program

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"brig/internal/sandbox"
)

// child is a Process of this machine.
type child struct {
	process *os.Process
	done    chan struct{}
	status  syscall.WaitStatus // read after done
}

func run(t *testing.T, script string) (*child, io.ReadCloser) {
	t.Helper()
	cmd := exec.Command("sh", "-c", script)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c := &child{process: cmd.Process, done: make(chan struct{})}
	go func() {
		defer close(c.done)
		state, err := cmd.Process.Wait() // not cmd.Wait, which closes the pipe
		if err == nil {
			c.status = state.Sys().(syscall.WaitStatus)
		}
	}()
	return c, out
}

func (c *child) Wait(context.Context) (int, time.Time, error) {
	<-c.done
	if c.status.Signaled() {
		return 128 + int(c.status.Signal()), time.Now(), nil
	}
	return c.status.ExitStatus(), time.Now(), nil
}

func (c *child) Kill(_ context.Context, s syscall.Signal) error { return c.process.Signal(s) }

func TestRun(t *testing.T) {
	p, out := run(t, "echo one; echo two; exit 3")
	b := NewBuffer(100)
	exit, err := Run(t.Context(), p, time.Minute, Stream{From: out, To: b})
	if err != nil || exit.Code != 3 || exit.Reason != sandbox.ReasonExited {
		t.Errorf("%+v, %v; want 3, exited", exit, err)
	}
	if got := string(b.Bytes()); got != "one\ntwo\n" || b.Truncated() {
		t.Errorf("output %q, truncated %v", got, b.Truncated())
	}
}

func TestTimeout(t *testing.T) {
	p, out := run(t, "exec sleep 60")
	exit, err := Run(t.Context(), p, 10*time.Millisecond, Stream{From: out, To: NewBuffer(1)})
	if err != nil || exit.Code != 124 || exit.Reason != sandbox.ReasonExecTimeout {
		t.Errorf("%+v, %v; want 124, exec_timeout", exit, err)
	}
}

func TestClientGoes(t *testing.T) {
	p, out := run(t, "exec sleep 60")
	ctx, cancel := context.WithCancelCause(t.Context())
	gone := errors.New("the client has gone")
	cancel(gone)
	if _, err := Run(ctx, p, 0, Stream{From: out, To: NewBuffer(1)}); !errors.Is(err, gone) {
		t.Errorf("%v; want %v", err, gone)
	}
	<-p.done // it was killed
}

func TestWriterFails(t *testing.T) {
	p, out := run(t, "while echo x; do :; done; exec sleep 60")
	full := errors.New("the client does not read")
	if _, err := Run(t.Context(), p, 0, Stream{From: out, To: failing{full}}); !errors.Is(err, full) {
		t.Errorf("%v; want %v", err, full)
	}
	<-p.done
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }

// A program that another one outlives, with the stream open, does not hold up its
// caller.
func TestStreamHeldOpen(t *testing.T) {
	out, held := io.Pipe()
	p, _ := run(t, "exit 3")
	go func() { _, _ = held.Write([]byte("x")) }()
	b := NewBuffer(10)
	exit, err := Run(t.Context(), p, 0, Stream{From: out, To: b})
	if err != nil || exit.Code != 3 || string(b.Bytes()) != "x" {
		t.Errorf("%+v, %v, output %q; want 3 and x", exit, err, b.Bytes())
	}
}

// Nor does one that never falls silent.
func TestChatterIsCutOff(t *testing.T) {
	p, out := run(t, "(while echo x; do sleep 0.05; done) & exit 3")
	exit, err := Run(t.Context(), p, 0, Stream{From: out, To: NewBuffer(10)})
	if err != nil || exit.Code != 3 {
		t.Errorf("%+v, %v; want 3", exit, err)
	}
}

// Nor does it hold up the end of a caller that has gone.
func TestClientGoesFromChatter(t *testing.T) {
	p, out := run(t, "(while echo x; do sleep 0.05; done) & exit 3")
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	begin := time.Now()
	_, err := Run(ctx, p, 0, Stream{From: out, To: NewBuffer(10)})
	if took := time.Since(begin); !errors.Is(err, context.DeadlineExceeded) || took > 3*time.Second {
		t.Errorf("%v after %v; want the deadline after a second", err, took)
	}
}

// A reader that pauses loses nothing of what was written before the end.
func TestSlowReaderGetsAll(t *testing.T) {
	const size = 60000 // less than a pipe holds, more than one read
	p, out := run(t, "head -c 60000 /dev/zero")
	b := NewBuffer(size + 1)
	_, err := Run(t.Context(), p, 0, Stream{From: out, To: &pausing{Buffer: b}})
	if got := len(b.Bytes()); err != nil || got != size {
		t.Errorf("%d bytes, %v; want %d", got, err, size)
	}
}

type pausing struct {
	*Buffer
	paused bool
}

func (p *pausing) Write(data []byte) (int, error) {
	if !p.paused {
		time.Sleep(2 * silence)
		p.paused = true
	}
	return p.Buffer.Write(data)
}

func TestBuffer(t *testing.T) {
	b := NewBuffer(4)
	for _, s := range []string{"ab", "cd"} {
		if n, err := b.Write([]byte(s)); n != 2 || err != nil {
			t.Errorf("write: %d, %v", n, err)
		}
	}
	if b.Truncated() {
		t.Error("nothing is missing, yet it says so")
	}
	if n, err := b.Write([]byte("ef")); n != 2 || err != nil || string(b.Bytes()) != "abcd" || !b.Truncated() {
		t.Errorf("write: %d, %v; kept %q, truncated %v", n, err, b.Bytes(), b.Truncated())
	}
}
