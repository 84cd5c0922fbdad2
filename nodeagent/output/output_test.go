package output

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"brig/internal/journal"
)

func create(t *testing.T, dir, name string, max int64) *journal.Writer {
	t.Helper()
	w, err := journal.Create(journal.Spec{Path: filepath.Join(dir, name), Max: max})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	return w
}

func write(t *testing.T, w *journal.Writer, s string) {
	t.Helper()
	if _, err := w.Write([]byte(s)); err != nil {
		t.Fatal(err)
	}
}

func collect(t *testing.T, r Request) []string {
	t.Helper()
	var got []string
	if err := Send(t.Context(), r, func(p Piece) error {
		got = append(got, fmt.Sprintf("%s %d %s", p.Stream, p.Offset, p.Data))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	slices.Sort(got)
	return got
}

func TestWhatIsThere(t *testing.T) {
	dir := t.TempDir()
	write(t, create(t, dir, "stdout", journal.Chunk), "abc")
	write(t, create(t, dir, "stderr", journal.Chunk), "xyz")
	got := collect(t, Request{Dir: dir, Offsets: map[string]int64{"stdout": 1, "stderr": 3, "none": 0}})
	if diff := cmp.Diff([]string{"stdout 1 bc"}, got); diff != "" {
		t.Errorf("pieces (-want +got):\n%s", diff)
	}
}

func TestFollow(t *testing.T) {
	dir := t.TempDir()
	w := create(t, dir, "stdout", journal.Chunk)
	write(t, w, "a")
	ended := make(chan struct{})
	seen := make(chan string)
	done := make(chan error)
	go func() {
		done <- Send(t.Context(), Request{Dir: dir, Offsets: map[string]int64{"stdout": 0}, Ended: ended}, func(p Piece) error {
			seen <- fmt.Sprintf("%d %s", p.Offset, p.Data)
			return nil
		})
	}()
	if got := <-seen; got != "0 a" {
		t.Errorf("piece %q; want 0 a", got)
	}
	write(t, w, "b")
	if got := <-seen; got != "1 b" {
		t.Errorf("piece %q; want 1 b", got)
	}
	write(t, w, "c") // before the end is known, as the shim does
	close(ended)
	if got := <-seen; got != "2 c" {
		t.Errorf("piece %q; want 2 c", got)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestDroppedBytesShowAsAJump(t *testing.T) {
	dir := t.TempDir()
	w := create(t, dir, "stdout", journal.Chunk)
	for range 4 {
		write(t, w, string(make([]byte, journal.Chunk)))
	}
	var first int64 = -1
	err := Send(t.Context(), Request{Dir: dir, Offsets: map[string]int64{"stdout": 0}}, func(p Piece) error {
		if first < 0 {
			first = p.Offset
		}
		return nil
	})
	if err != nil || first != 3*journal.Chunk {
		t.Errorf("first piece at %d, %v; want %d", first, err, 3*journal.Chunk)
	}
}

func TestReaderGoes(t *testing.T) {
	dir := t.TempDir()
	write(t, create(t, dir, "stdout", journal.Chunk), "a")
	create(t, dir, "stderr", journal.Chunk)
	r := Request{Dir: dir, Offsets: map[string]int64{"stdout": 0, "stderr": 0}, Ended: make(chan struct{})}
	gone := errors.New("the client has gone")
	if err := Send(t.Context(), r, func(Piece) error { return gone }); !errors.Is(err, gone) {
		t.Errorf("a send that fails: %v; want %v", err, gone)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(gone)
	if err := Send(ctx, r, func(Piece) error { return nil }); !errors.Is(err, gone) {
		t.Errorf("a context that ends: %v; want %v", err, gone)
	}
}
