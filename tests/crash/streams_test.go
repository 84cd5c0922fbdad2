package crash

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/cio"
	"github.com/containerd/fifo"
	"golang.org/x/sys/unix"
)

// pipes are FIFOs whose other ends a test holds itself.
type pipes struct {
	dir    string
	config cio.Config
}

// pipes makes the FIFOs named, of stdin, stdout and stderr.
func (n *node) pipes(t *testing.T, names ...string) *pipes {
	t.Helper()
	dir, err := os.MkdirTemp(n.dir, "pipes-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	p := &pipes{dir: dir}
	for _, name := range names {
		path := filepath.Join(dir, name)
		if err := unix.Mkfifo(path, 0o600); err != nil {
			t.Fatal(err)
		}
		switch name {
		case "stdin":
			p.config.Stdin = path
		case "stdout":
			p.config.Stdout = path
		case "stderr":
			p.config.Stderr = path
		}
	}
	return p
}

// Config, Cancel, Wait and Close make it a cio.IO that does nothing.
func (p *pipes) Config() cio.Config { return p.config }

// Cancel does nothing.
func (p *pipes) Cancel() {}

// Wait does nothing.
func (p *pipes) Wait() {}

// Close does nothing.
func (p *pipes) Close() error { return nil }

func (p *pipes) creator() cio.Creator { return func(string) (cio.IO, error) { return p, nil } }

func (p *pipes) open(t *testing.T, name string, flag int) io.ReadWriteCloser {
	t.Helper()
	f, err := fifo.OpenFifo(t.Context(), filepath.Join(p.dir, name), flag|syscall.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// TestReaderComesBack: whoever read the output of a program goes in the middle of it,
// and another one comes. The program waited, as under runc, and no byte is lost.
func TestReaderComesBack(t *testing.T) {
	t.Parallel()
	n := use(t)
	everywhere(t, func(t *testing.T, o ...option) {
		const all, some = 4_000_000, 100_000
		p := n.pipes(t, "stdout")
		out := p.open(t, "stdout", syscall.O_RDONLY)
		c := n.container(t, []string{"sh", "-c", fmt.Sprintf("yes 0123456789 | head -c %d; exit 6", all)}, o...)
		if err := c.createWith(n.call(t), p.creator()); err != nil {
			t.Fatal(err)
		}
		rest := make(chan int64)
		go func() {
			_, _ = io.CopyN(io.Discard, out, some)
			out.Close()
			time.Sleep(100 * time.Millisecond)
			out := p.open(t, "stdout", syscall.O_RDONLY)
			defer out.Close()
			got, _ := io.Copy(io.Discard, out)
			rest <- got
		}()
		if code, err := c.run(n.call(t)); err != nil || code != 6 {
			t.Errorf("status %d, %v, want 6", code, err)
		}
		if got := <-rest; got != all-some {
			t.Errorf("the second reader got %d bytes, want %d", got, all-some)
		}
		if _, err := c.task.Delete(n.call(t)); err != nil {
			t.Error(err)
		}
	})
}

// TestReaderGoes: whoever should read goes for good, or does not read. A kill does not
// wait for a reader, and the end is told after a while.
func TestReaderGoes(t *testing.T) {
	t.Parallel()
	n := use(t)
	for _, goes := range []bool{true, false} {
		everywhere(t, func(t *testing.T, o ...option) {
			p := n.pipes(t, "stdout")
			out := p.open(t, "stdout", syscall.O_RDONLY)
			defer out.Close()
			c := n.container(t, []string{"sh", "-c", "yes 0123456789 | head -c 4000000; sleep 1000"}, o...)
			if err := c.createWith(n.call(t), p.creator()); err != nil {
				t.Fatal(err)
			}
			if err := c.task.Start(n.call(t)); err != nil {
				t.Fatal(err)
			}
			if goes {
				out.Close()
			}
			if code, known, err := c.stop(n.call(t)); err != nil || !known || code != 137 {
				t.Errorf("status %d, known %v, %v", code, known, err)
			}
			if _, err := c.task.Delete(n.call(t)); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestWriterGoes: whoever wrote to a program goes; another one can come, and what ends
// the input is that it is closed.
func TestWriterGoes(t *testing.T) {
	t.Parallel()
	n := use(t)
	everywhere(t, func(t *testing.T, o ...option) {
		p := n.pipes(t, "stdin", "stdout")
		out := p.open(t, "stdout", syscall.O_RDONLY)
		in := p.open(t, "stdin", syscall.O_WRONLY)
		c := n.container(t, []string{"sh", "-c", "cat; exit 4"}, o...)
		if err := c.createWith(n.call(t), p.creator()); err != nil {
			t.Fatal(err)
		}
		exited, err := c.task.Wait(n.call(t))
		if err != nil {
			t.Fatal(err)
		}
		if err := c.task.Start(n.call(t)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(in, "one\n"); err != nil {
			t.Fatal(err)
		}
		in.Close()
		time.Sleep(100 * time.Millisecond)
		in = p.open(t, "stdin", syscall.O_WRONLY)
		if _, err := io.WriteString(in, "two\n"); err != nil {
			t.Fatal(err)
		}
		in.Close()
		if err := c.task.CloseIO(n.call(t), client.WithStdinCloser); err != nil {
			t.Error(err)
		}
		var said bytes.Buffer
		if _, err := said.ReadFrom(out); err != nil || said.String() != "one\ntwo\n" {
			t.Errorf("the program said %q, %v", said.String(), err)
		}
		select {
		case e := <-exited:
			if e.ExitCode() != 4 {
				t.Errorf("status %d", e.ExitCode())
			}
		case <-time.After(patience):
			t.Error("the program does not end")
		}
	})
}

// TestNobodyReads: a client makes a FIFO, never opens it, and gives up. Nothing of the
// create is left, not even the shim.
func TestNobodyReads(t *testing.T) {
	t.Parallel()
	n := use(t)
	everywhere(t, func(t *testing.T, o ...option) {
		for _, gives := range []string{"up", "a deadline"} {
			p := n.pipes(t, "stdout")
			c := n.container(t, []string{"true"}, o...)
			ctx, cancel := context.WithCancel(n.call(t))
			if gives == "a deadline" {
				ctx, cancel = context.WithTimeout(ctx, 300*time.Millisecond)
			} else {
				time.AfterFunc(300*time.Millisecond, cancel)
			}
			began := time.Now()
			if err := c.createWith(ctx, p.creator()); err == nil {
				t.Error("a task was created though nobody reads its output")
			}
			cancel()
			if took := time.Since(began); took > 5*time.Second {
				t.Errorf("the client was held up for %v", took)
			}
			if err := c.remove(); err != nil {
				t.Error(err)
			}
			if err := n.settle(c.id); err != nil {
				t.Errorf("the client gave %s: %v", gives, err)
			}
		}
	})
}

// TestFullDisk: a log file on a disk that is full loses what does not fit, and the
// program goes on.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	n := use(t)
	everywhere(t, func(t *testing.T, o ...option) {
		disk := n.disk(t, "64k")
		c := n.container(t, []string{"sh", "-c", "yes 0123456789 | head -c 1000000; exit 3"}, o...)
		path := filepath.Join(disk, "log")
		if err := c.createWith(n.call(t), cio.LogFile(path)); err != nil {
			t.Fatal(err)
		}
		if code, err := c.run(n.call(t)); err != nil || code != 3 {
			t.Errorf("status %d, %v, want 3", code, err)
		}
		if _, err := c.task.Delete(n.call(t)); err != nil {
			t.Error(err)
		}
		if data, err := os.ReadFile(path); err != nil || !strings.HasPrefix(string(data), "0123456789\n012") {
			t.Errorf("the log has %d bytes, %v", len(data), err)
		}
	})
}

// disk is a file system of a size.
func (n *node) disk(t *testing.T, size string) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "brig-disk-")
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
		os.Remove(dir)
	})
	return dir
}

// everywhere runs a test for a task of its own and for a container of a pod.
func everywhere(t *testing.T, test func(t *testing.T, o ...option)) {
	n := use(t)
	t.Run("task", func(t *testing.T) { t.Parallel(); test(t) })
	t.Run("pod", func(t *testing.T) { t.Parallel(); test(t, in(n.pod(t))) })
}
