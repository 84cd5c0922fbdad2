package output

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
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

// streams of a folder's journals, from offsets on.
func streams(dir string, offsets map[string]int64) (list []Stream) {
	for name, offset := range offsets {
		list = append(list, Stream{Name: name, Journal: journal.Spec{Path: filepath.Join(dir, name), Max: journal.Chunk}, Offset: offset})
	}
	return list
}

func collect(t *testing.T, list []Stream) []string {
	t.Helper()
	var got []string
	if err := Send(t.Context(), list, nil, func(p Piece) error {
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
	got := collect(t, streams(dir, map[string]int64{"stdout": 1, "stderr": 3, "none": 0}))
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
		done <- Send(t.Context(), streams(dir, map[string]int64{"stdout": 0}), ended, func(p Piece) error {
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
	err := Send(t.Context(), streams(dir, map[string]int64{"stdout": 0}), nil, func(p Piece) error {
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
	r := streams(dir, map[string]int64{"stdout": 0, "stderr": 0})
	gone := errors.New("the client has gone")
	if err := Send(t.Context(), r, make(chan struct{}), func(Piece) error { return gone }); !errors.Is(err, gone) {
		t.Errorf("a send that fails: %v; want %v", err, gone)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(gone)
	if err := Send(ctx, r, make(chan struct{}), func(Piece) error { return nil }); !errors.Is(err, gone) {
		t.Errorf("a context that ends: %v; want %v", err, gone)
	}
}

// A reader of a journal that blocks lets its writer go on, loses nothing, and leaves
// something for one that comes again.
func TestBlockedWriterGoesOn(t *testing.T) {
	dir := t.TempDir()
	spec := journal.Spec{Path: filepath.Join(dir, "stdout"), Max: 4 * journal.Chunk, Block: true}
	w, err := journal.Create(spec)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	const total = 50 * journal.Chunk
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for n := range byte(50) {
			write(t, w, strings.Repeat(string(rune('A'+n)), journal.Chunk))
		}
	}()
	next := int64(0)
	if err := Send(t.Context(), []Stream{{Name: "stdout", Journal: spec}}, ended, func(p Piece) error {
		if p.Offset != next {
			return fmt.Errorf("piece at %d; want %d", p.Offset, next)
		}
		for i, b := range p.Data {
			if want := byte('A' + (next+int64(i))/journal.Chunk); b != want {
				return fmt.Errorf("byte %d is %q; want %q", next+int64(i), b, want)
			}
		}
		next += int64(len(p.Data))
		return nil
	}); err != nil || next != total {
		t.Fatalf("sent %d of %d, %v", next, total, err)
	}
	r, err := journal.Open(spec.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if start, err := r.Start(); err != nil || start != total-2*journal.Chunk {
		t.Errorf("kept from %d, %v; want from %d", start, err, total-2*journal.Chunk)
	}
}

// What was lost at the end shows too.
func TestLossAtTheEnd(t *testing.T) {
	dir := t.TempDir()
	write(t, create(t, dir, "stdout", journal.Chunk), "abc")
	f, err := os.OpenFile(filepath.Join(dir, "stdout"), os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(1000); err != nil { // as a full disk leaves it
		t.Fatal(err)
	}
	got := collect(t, streams(dir, map[string]int64{"stdout": 3}))
	if diff := cmp.Diff([]string{"stdout 1000 "}, got); diff != "" {
		t.Errorf("pieces (-want +got):\n%s", diff)
	}
}

// TestReadersThatTakeNothing hold little of memory, however many they are, and get
// everything in the end.
func TestReadersThatTakeNothing(t *testing.T) {
	const readers, size = 2 * chunks, 2 << 20
	dir := t.TempDir()
	w := create(t, dir, "stdout", 2*size)
	write(t, w, strings.Repeat("x", size))
	held := make(chan int, readers)
	taken := make(chan struct{})
	done := make(chan int64, readers)
	for range readers {
		go func() {
			first, sum := true, int64(0)
			err := Send(t.Context(), streams(dir, map[string]int64{"stdout": 0}), nil, func(p Piece) error {
				if first {
					held <- len(p.Data)
					<-taken
				}
				first, sum = false, sum+int64(len(p.Data))
				return nil
			})
			if err != nil {
				t.Error(err)
			}
			done <- sum
		}()
	}
	all := 0
	for range readers {
		all += <-held
	}
	close(taken)
	if limit := chunks*chunk + readers*small; all > limit {
		t.Errorf("%d readers hold %d MiB; want at most %d", readers, all>>20, limit>>20)
	}
	for range readers {
		if got := <-done; got != size {
			t.Errorf("a reader got %d bytes of %d", got, size)
		}
	}
}
