package journal

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func newJournal(t *testing.T, max int64) (*Writer, *Reader) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "out")
	w, err := Create(Spec{Path: path, Max: max})
	if err != nil {
		t.Fatal(err)
	}
	r, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close(); r.Close() })
	return w, r
}

// pattern makes byte n of a stream recognisable, and never zero, as a hole reads.
func pattern(off, n int64) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte((off+int64(i))%251) + 1
	}
	return p
}

func write(t *testing.T, w *Writer, n int64) {
	t.Helper()
	if _, err := w.Write(pattern(w.Size(), n)); err != nil {
		t.Fatal(err)
	}
}

func TestOffsetsAreTheStreams(t *testing.T) {
	w, r := newJournal(t, 2*Chunk)
	for range 1000 {
		write(t, w, 997)
	}
	size, err := r.Size()
	if err != nil || size != 997_000 {
		t.Fatalf("size %d, %v; want 997000", size, err)
	}
	start, err := r.Start()
	if err != nil || start != (size-2*Chunk)/Chunk*Chunk {
		t.Fatalf("start %d, %v; want %d", start, err, (size-2*Chunk)/Chunk*Chunk)
	}
	got := make([]byte, size)
	n, at, err := r.ReadAt(got, 5) // dropped long ago
	if err != nil || at != start || int64(n) != size-start {
		t.Fatalf("read %d bytes at %d, %v; want %d at %d", n, at, err, size-start, start)
	}
	if !bytes.Equal(got[:n], pattern(start, size-start)) {
		t.Error("the bytes kept are not those of the stream")
	}
	if n, at, err = r.ReadAt(got, size); n != 0 || at != size || !errors.Is(err, io.EOF) {
		t.Errorf("read at the end: %d, %d, %v; want 0, %d, EOF", n, at, err, size)
	}
}

func TestSpaceIsBounded(t *testing.T) {
	w, r := newJournal(t, Chunk)
	for range 64 {
		write(t, w, Chunk)
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(r.file.Fd()), &st); err != nil {
		t.Fatal(err)
	}
	if used := st.Blocks * 512; used > 2*Chunk {
		t.Errorf("64 chunks written, 1 to be kept: %d bytes in use, want at most %d", used, 2*Chunk)
	}
}

func TestOneWriteLargerThanTheBound(t *testing.T) {
	w, r := newJournal(t, Chunk)
	write(t, w, 10*Chunk+1)
	got := make([]byte, 20*Chunk)
	n, at, err := r.ReadAt(got, 0)
	if err != nil || at != 9*Chunk || n != Chunk+1 || !bytes.Equal(got[:n], pattern(at, int64(n))) {
		t.Fatalf("read %d bytes at %d, %v; want %d at %d", n, at, err, Chunk+1, 9*Chunk)
	}
}

func TestWaitWakesUpAndStops(t *testing.T) {
	w, r := newJournal(t, Chunk)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	done := make(chan error)
	go func() { done <- r.Wait(ctx, 3) }()
	write(t, w, 3)
	write(t, w, 1)
	if err := <-done; err != nil {
		t.Fatalf("wait for the fourth byte: %v", err)
	}
	ended := errors.New("the program has ended")
	ctx2, stop := context.WithCancelCause(t.Context())
	go func() { done <- r.Wait(ctx2, 4) }()
	stop(ended)
	if err := <-done; !errors.Is(err, ended) {
		t.Fatalf("wait for the fifth byte: %v; want %v", err, ended)
	}
}

// A reader that races with a fast writer may miss bytes, but what it gets is right.
func TestReaderNeverSeesAHole(t *testing.T) {
	w, r := newJournal(t, Chunk)
	const total = 400 * Chunk
	done := make(chan struct{})
	defer func() { <-done }()
	go func() {
		defer close(done)
		for w.Size() < total {
			if _, err := w.Write(pattern(w.Size(), 8191)); err != nil {
				return
			}
		}
	}()
	buf := make([]byte, 3*Chunk)
	for off := int64(0); off < total; {
		n, at, err := r.ReadAt(buf, off)
		if errors.Is(err, io.EOF) {
			if err := r.Wait(t.Context(), off); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(buf[:n], pattern(at, int64(n))) {
			t.Fatalf("asked for %d, got %d bytes at %d that are not the stream's", off, n, at)
		}
		off = at + int64(n)
	}
}

func TestCreateNeverOpensWhatIsThere(t *testing.T) {
	dir := t.TempDir()
	file, link := filepath.Join(dir, "file"), filepath.Join(dir, "link")
	if err := os.WriteFile(file, []byte("kept"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(dir, "elsewhere"), link); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{file, link} {
		if _, err := Create(Spec{Path: path, Max: Chunk}); !errors.Is(err, unix.EEXIST) {
			t.Errorf("create %s: %v; want EEXIST", path, err)
		}
	}
}

func TestURI(t *testing.T) {
	s := Spec{Path: "/var/lib/brig/a b/out", Max: 1 << 20}
	if got, err := ParseURI(s.URI()); err != nil || got != s {
		t.Errorf("%s: %+v, %v; want %+v", s.URI(), got, err, s)
	}
	s.Block = true
	if got, err := ParseURI(s.URI()); err != nil || got != s {
		t.Errorf("%s: %+v, %v; want %+v", s.URI(), got, err, s)
	}
	if got, err := ParseInputURI(InputURI(s.Path)); err != nil || got != s.Path {
		t.Errorf("%s: %s, %v; want %s", InputURI(s.Path), got, err, s.Path)
	}
	for _, uri := range []string{"", "journal:///a?max=65536", "journal:///a/../b", "journal:a", "/a", "journal://h/a"} {
		if path, err := ParseInputURI(uri); err == nil {
			t.Errorf("input %s: %s; want an error", uri, path)
		}
	}
	for _, uri := range []string{
		"", "file:///a?max=65536", "journal:///a", "journal://host/a?max=65536", "journal:///a?max=1",
		"journal:///a/../b?max=65536", "journal:///a?max=65536&overflow=block", "journal:///a?max=655360&overflow=drop",
		"journal:///a?max=655360&overflow=block&overflow=block", "journal:///a?max=65536&overflow=",
		"journal:///a?max=65536&x=1", "journal:a?max=65536", "journal:///a?max=many",
	} {
		if s, err := ParseURI(uri); err == nil {
			t.Errorf("%s: %+v; want an error", uri, s)
		}
	}
}
