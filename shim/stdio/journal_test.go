package stdio

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"brig/internal/journal"

	"github.com/containerd/errdefs"
)

// journals are an input, and the specs of outputs, in a folder of their own.
func journals(t *testing.T, max int64, block bool) (in *journal.Input, c Config, out, errs journal.Spec) {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "in")
	if err := journal.CreateInput(path); err != nil {
		t.Fatal(err)
	}
	in, err := journal.OpenInput(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close() })
	out = journal.Spec{Path: filepath.Join(dir, "out"), Max: max, Block: block}
	errs = journal.Spec{Path: filepath.Join(dir, "err"), Max: max, Block: block}
	return in, Config{Stdin: journal.InputURI(path), Stdout: out.URI(), Stderr: errs.URI()}, out, errs
}

// read follows a journal to a length, releasing what it has read.
func read(t *testing.T, s journal.Spec, total int) []byte {
	t.Helper()
	r, err := journal.Open(s.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var got []byte
	buf := make([]byte, 100_000)
	for len(got) < total {
		n, at, err := r.ReadAt(buf, int64(len(got)))
		if errors.Is(err, io.EOF) {
			err = r.Wait(ctx, int64(len(got)))
		}
		if err != nil || at != int64(len(got)) {
			t.Fatalf("read at %d: at %d, %v", len(got), at, err)
		}
		got = append(got, buf[:n]...)
		if err := r.Release(s.Read(int64(len(got)))); err != nil {
			t.Fatal(err)
		}
	}
	return got
}

func send(t *testing.T, in *journal.Input, offset int64, data string, eof bool) {
	t.Helper()
	if size, err := in.Append(t.Context(), offset, []byte(data), eof); err != nil || size != offset+int64(len(data)) {
		t.Fatalf("append at %d: %d, %v", offset, size, err)
	}
}

func TestStdinFromAJournal(t *testing.T) {
	in, c, out, errs := journals(t, journal.Chunk, false)
	s := open(t, c)
	send(t, in, 0, "before the start, ", false)
	cmd := start(t, s, "cat; echo end >&2")
	send(t, in, 18, "half ", false)
	if got := read(t, out, 23); string(got) != "before the start, half " {
		t.Errorf("got %q", got)
	}
	send(t, in, 23, "and the end", true)
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	drain(t, s)
	if b, err := os.ReadFile(out.Path); err != nil || string(b) != "before the start, half and the end" {
		t.Errorf("stdout %q, %v", b, err)
	}
	if b, err := os.ReadFile(errs.Path); err != nil || string(b) != "end\n" {
		t.Errorf("stderr %q, %v", b, err)
	}
}

// Much more than any buffer, both ways at once, byte for byte; nobody keeps it all.
func TestJournalsBothWays(t *testing.T) {
	in, c, out, _ := journals(t, 4*journal.Chunk, true)
	s := open(t, c)
	cmd := start(t, s, "cat")
	big := bytes.Repeat([]byte("0123456789abcde\x00"), 512<<10) // 8 MiB
	go func() {
		for off := 0; off < len(big); {
			end := min(len(big), off+77_777)
			size, err := in.Append(t.Context(), int64(off), big[off:end], end == len(big))
			if err != nil {
				t.Error(err)
				return
			}
			off = int(size)
		}
	}()
	if got := read(t, out, len(big)); !bytes.Equal(got, big) {
		t.Error("what came back is not what was sent")
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	drain(t, s)
}

// A program that does not want its stdin keeps nobody waiting.
func TestStdinThatIsNotRead(t *testing.T) {
	in, c, out, _ := journals(t, journal.Chunk, false)
	s := open(t, c)
	cmd := start(t, s, "exec <&-; echo closed; read x <"+mkfifoHeld(t))
	read(t, out, len("closed\n"))
	for off := int64(0); off < 4*journal.Window; off += journal.Window {
		send(t, in, off, strings.Repeat("x", journal.Window), false)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	drain(t, s)
}

// mkfifoHeld is a FIFO that a reader waits on.
func mkfifoHeld(t *testing.T) string {
	t.Helper()
	path := mkfifo(t)
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return path
}

func TestCloseStdinEndsWhatIsThere(t *testing.T) {
	in, c, out, _ := journals(t, journal.Chunk, false)
	s := open(t, c)
	send(t, in, 0, "all there is", false)
	s.CloseStdin()
	if err := start(t, s, "cat").Wait(); err != nil {
		t.Fatal(err)
	}
	drain(t, s)
	if b, err := os.ReadFile(out.Path); err != nil || string(b) != "all there is" {
		t.Errorf("stdout %q, %v", b, err)
	}
}

func TestTerminalWithJournals(t *testing.T) {
	for _, tc := range []struct{ script, typed, want string }{
		{"cat; echo end", "line\n", "line\r\nline\r\nend\r\n"},
		{"cat; echo end", "half a line", "half a linehalf a lineend\r\n"},
		{"stty -icanon -echo; echo raw; head -c 4; echo", "a\x00\xffb", "raw\r\na\x00\xffb\r\n"},
	} {
		in, c, out, _ := journals(t, journal.Chunk, false)
		c.Terminal, c.Stderr = true, ""
		s := open(t, c)
		cmd := start(t, s, tc.script)
		if strings.HasPrefix(tc.want, "raw") {
			read(t, out, len("raw\r\n"))
		}
		send(t, in, 0, tc.typed, true)
		if err := cmd.Wait(); err != nil {
			t.Fatal(err)
		}
		drain(t, s)
		b, err := os.ReadFile(out.Path)
		if got := strings.ReplaceAll(string(b), "^D\b\b", ""); err != nil || got != tc.want { // as the terminal shows the key
			t.Errorf("%s: %q, %v; want %q", tc.script, b, err, tc.want)
		}
	}
}

// A program whose output nobody reads waits; one that has ended does not wait for a reader
// with its last words, nor are they lost.
func TestLastWordsOfAFullJournal(t *testing.T) {
	_, c, out, _ := journals(t, 2*journal.Chunk, true)
	s := open(t, c)
	const total = 2*journal.Chunk + bufferBytes/2 + 5000 // the journal, and what a pipe holds
	cmd := start(t, s, "head -c "+strconv.Itoa(total)+" /dev/zero")
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	drain(t, s)
	if got := read(t, out, total); len(got) != total {
		t.Errorf("kept %d bytes; want %d", len(got), total)
	}
}

func TestRefusedJournals(t *testing.T) {
	dir := t.TempDir()
	for _, c := range []struct {
		config Config
		is     func(error) bool
	}{
		{Config{Stdin: "journal://" + dir + "/none"}, func(err error) bool { return errors.Is(err, os.ErrNotExist) }},
		{Config{Stdin: "journal://" + dir + "/none", Terminal: true}, func(err error) bool { return errors.Is(err, os.ErrNotExist) }},
		{Config{Stdin: "journal://" + dir + "/none?max=65536"}, errdefs.IsInvalidArgument},
		{Config{Stdin: "journal://" + mkfifo(t)}, func(err error) bool { return strings.Contains(err.Error(), "not a regular file") }},
		{Config{Stdout: "journal://" + dir + "/out?max=65536&overflow=block"}, errdefs.IsInvalidArgument},
		{Config{Stdout: "journal://" + dir + "/out?max=131072&overflow=wait"}, errdefs.IsInvalidArgument},
	} {
		if s, err := Open(t.Context(), c.config); err == nil || !c.is(err) {
			t.Errorf("%+v: %v, %v", c.config, s, err)
		}
	}
}
