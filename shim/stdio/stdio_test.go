package stdio

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"brig/internal/journal"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

func mkfifo(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "fifo")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// client reads a FIFO to its end, as containerd's clients do.
func client(t *testing.T, path string) <-chan string {
	t.Helper()
	got := make(chan string, 1)
	go func() {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Error(err)
		}
		got <- string(b)
	}()
	return got
}

func open(t *testing.T, c Config) *IO {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	s, err := Open(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// start runs a shell script with the streams of s.
func start(t *testing.T, s *IO, script string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("sh", "-c", script)
	f := s.Files()
	cmd.Stdin, cmd.Stdout, cmd.Stderr = f[0], f[1], f[2]
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s.Started()
	if err := s.Feed(func(unix.Signal) {}); err != nil {
		t.Fatal(err)
	}
	return cmd
}

func drain(t *testing.T, s *IO) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if s.Drain(ctx); ctx.Err() != nil {
		t.Fatal("the streams were not drained")
	}
}

func TestPipes(t *testing.T) {
	in, out, dir := mkfifo(t), mkfifo(t), t.TempDir()
	errs := journal.Spec{Path: filepath.Join(dir, "err"), Max: journal.Chunk}
	got := client(t, out)
	s := open(t, Config{Stdin: in, Stdout: out, Stderr: errs.URI()})
	cmd := start(t, s, "cat; echo bad >&2")
	w, err := os.OpenFile(in, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	big := strings.Repeat("0123456789abcdef", 64<<10) // a megabyte
	if _, err := io.WriteString(w, big); err != nil {
		t.Fatal(err)
	}
	w.Close()
	s.CloseStdin()
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	drain(t, s)
	if out := <-got; out != big {
		t.Errorf("got %d bytes, want the %d sent", len(out), len(big))
	}
	if b, err := os.ReadFile(errs.Path); err != nil || string(b) != "bad\n" {
		t.Errorf("journal: %q, %v", b, err)
	}
}

func TestClientMayDetachFromStdin(t *testing.T) {
	in, out := mkfifo(t), mkfifo(t)
	got := client(t, out)
	s := open(t, Config{Stdin: in, Stdout: out})
	cmd := start(t, s, "cat")
	for _, line := range []string{"one\n", "two\n"} { // each by a client of its own
		w, err := os.OpenFile(in, os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(w, line)
		w.Close()
	}
	s.CloseStdin()
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	drain(t, s)
	if out := <-got; out != "one\ntwo\n" {
		t.Errorf("got %q", out)
	}
}

func TestStdinClosedBeforeTheStart(t *testing.T) {
	in, out := mkfifo(t), mkfifo(t)
	got := client(t, out)
	s := open(t, Config{Stdin: in, Stdout: out})
	s.CloseStdin()
	if err := start(t, s, "cat; echo end").Wait(); err != nil {
		t.Fatal(err)
	}
	drain(t, s)
	if out := <-got; out != "end\n" {
		t.Errorf("got %q", out)
	}
}

func TestDrainDoesNotWaitForOthers(t *testing.T) {
	out := mkfifo(t)
	got := client(t, out)
	s := open(t, Config{Stdout: out})
	release, hold, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sh", "-c", "echo done; read x <&3 &")
	f := s.Files()
	cmd.Stdout, cmd.ExtraFiles = f[1], []*os.File{release}
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	s.Started()
	if err := s.Feed(func(unix.Signal) {}); err != nil {
		t.Fatal(err)
	}
	drain(t, s)
	if out := <-got; out != "done\n" {
		t.Errorf("got %q", out)
	}
	hold.Close() // ends the process that inherited stdout
}

func TestDrainWithoutAReaderEnds(t *testing.T) {
	out := mkfifo(t)
	r, err := os.OpenFile(out, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	s := open(t, Config{Stdout: out})
	cmd := start(t, s, "head -c 100000 /dev/zero") // more than a FIFO holds
	if err := cmd.Wait(); err == nil {
		r.Close()
		drain(t, s)
	}
}

func TestTerminal(t *testing.T) {
	in, out := mkfifo(t), mkfifo(t)
	got := client(t, out)
	s := open(t, Config{Stdin: in, Stdout: out, Terminal: true})
	if err := s.Resize(100, 40); err != nil {
		t.Fatal(err)
	}
	cmd := start(t, s, "read line; stty size; echo got $line")
	w, err := os.OpenFile(in, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(w, "it\n")
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	drain(t, s)
	if out := <-got; out != "it\r\n40 100\r\ngot it\r\n" {
		t.Errorf("got %q", out)
	}
	if err := open(t, Config{}).Resize(1, 1); !errors.Is(err, ErrNoTerminal) {
		t.Errorf("resize without a terminal: %v", err)
	}
}

func TestKeysAreSignals(t *testing.T) {
	master, replica, err := openPTY()
	if err != nil {
		t.Fatal(err)
	}
	defer master.Close()
	defer replica.Close()
	want := []unix.Signal{unix.SIGINT, unix.SIGTSTP, unix.SIGQUIT}
	if got := keySignals(master, []byte("a\x03b\x1a\x1c\x00")); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	raw, err := unix.IoctlGetTermios(int(replica.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	raw.Lflag &^= unix.ISIG
	if err := unix.IoctlSetTermios(int(replica.Fd()), unix.TCSETS, raw); err != nil {
		t.Fatal(err)
	}
	if got := keySignals(master, []byte("\x03")); got != nil {
		t.Errorf("got %v from a terminal without signals", got)
	}
}

func TestRefused(t *testing.T) {
	plain := filepath.Join(t.TempDir(), "plain")
	if err := os.WriteFile(plain, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		config Config
		is     func(error) bool
	}{
		{Config{Stdout: "npipe:///x"}, errdefs.IsNotImplemented},
		{Config{Stdout: "binary://logger"}, errdefs.IsInvalidArgument},
		{Config{Stderr: "binary-v2://host/bin/logger"}, errdefs.IsInvalidArgument},
		{Config{Stdout: "file://" + mkfifo(t)}, func(err error) bool { return errors.Is(err, unix.ENXIO) }},
		{Config{Stdout: plain}, errdefs.IsInvalidArgument},
		{Config{Stdin: plain}, errdefs.IsInvalidArgument},
		{Config{Stderr: "journal:///x"}, errdefs.IsInvalidArgument},
		{Config{Stdout: "journal://" + plain + "?max=65536"}, func(err error) bool { return errors.Is(err, os.ErrExist) }},
		{Config{Stdout: "file://host/x"}, errdefs.IsInvalidArgument},
	} {
		if s, err := Open(t.Context(), c.config); !c.is(err) {
			t.Errorf("%+v: %v, %v", c.config, s, err)
		}
	}
}

func TestReaderThatGoesHurtsNobody(t *testing.T) {
	out := mkfifo(t)
	r, err := os.OpenFile(out, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	s := open(t, Config{Stdout: out, Stderr: out})
	cmd := start(t, s, "echo one; read x </dev/null; echo two; echo three >&2")
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("the program: %v", err)
	}
	drain(t, s)
}

func TestFileAndOneStreamForBoth(t *testing.T) {
	path := filepath.Join(t.TempDir(), "logs", "out")
	s := open(t, Config{Stdout: "file://" + path, Stderr: "file://" + path})
	if err := start(t, s, "echo out; echo err >&2").Wait(); err != nil {
		t.Fatal(err)
	}
	drain(t, s)
	if b, err := os.ReadFile(path); err != nil || !bytes.Equal(b, []byte("out\nerr\n")) {
		t.Errorf("%q, %v", b, err)
	}
	s = open(t, Config{Stdout: "file://" + path})
	if err := start(t, s, "echo more").Wait(); err != nil {
		t.Fatal(err)
	}
	drain(t, s)
	if b, err := os.ReadFile(path); err != nil || !bytes.HasSuffix(b, []byte("err\nmore\n")) {
		t.Errorf("not appended: %q, %v", b, err)
	}
}
