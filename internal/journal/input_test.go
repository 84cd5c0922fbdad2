package journal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

func newInput(t *testing.T) (*Input, *Reader) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "in")
	if err := CreateInput(path); err != nil {
		t.Fatal(err)
	}
	if err := CreateInput(path); !errors.Is(err, unix.EEXIST) {
		t.Fatalf("make it twice: %v; want EEXIST", err)
	}
	i, err := OpenInput(path)
	if err != nil {
		t.Fatal(err)
	}
	r, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { i.Close(); r.Close() })
	return i, r
}

func TestAppend(t *testing.T) {
	i, r := newInput(t)
	for _, step := range []struct {
		offset int64
		data   string
		eof    bool
		want   string // size and error
	}{
		{0, "", false, "0 <nil>"},
		{1, "x", false, "0 the offset does not continue the input"},
		{0, "abc", false, "3 <nil>"},
		{0, "abc", false, "3 <nil>"}, // sent again
		{1, "bcde", false, "5 <nil>"},
		{5, "", false, "5 <nil>"},
		{2, "c", true, "5 the offset does not continue the input"}, // the end is not there
		{5, "f", true, "6 <nil>"},
		{5, "f", true, "6 <nil>"},
		{6, "", true, "6 <nil>"},
		{0, "abc", false, "6 <nil>"},
		{6, "g", false, "6 the input has ended"},
		{4, "efg", true, "6 the input has ended"},
		{7, "", false, "6 the offset does not continue the input"},
		{-1, "x", false, "0 append to input at -1: invalid argument"},
	} {
		size, err := i.Append(t.Context(), step.offset, []byte(step.data), step.eof)
		if got := fmt.Sprint(size, " ", err); got != step.want {
			t.Errorf("append %q at %d, eof %v: %s; want %s", step.data, step.offset, step.eof, got, step.want)
		}
	}
	got := make([]byte, 100)
	n, _, err := r.ReadAt(got, 0)
	if done, errDone := r.Complete(); string(got[:n]) != "abcdef" || err != nil || !done || errDone != nil {
		t.Errorf("read %q, %v, complete %v, %v; want abcdef, complete", got[:n], err, done, errDone)
	}
}

// take follows an input as the shim does, until it has taken upTo or all.
func take(t *testing.T, r *Reader, off, upTo int64) int64 {
	t.Helper()
	buf := make([]byte, Chunk)
	for off < upTo {
		n, at, err := r.ReadAt(buf, off)
		if errors.Is(err, io.EOF) {
			if done, err := r.Complete(); err != nil {
				t.Fatal(err)
			} else if done {
				return off
			}
			if err := r.Wait(t.Context(), off); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if err != nil || at != off || !bytes.Equal(buf[:n], pattern(at, int64(n))) {
			t.Fatalf("asked for %d, got %d bytes at %d, %v; want the stream's, from there on", off, n, at, err)
		}
		off += int64(n)
		if err := r.Release(off); err != nil {
			t.Fatal(err)
		}
	}
	return off
}

// A writer that dies at any point and comes again, with the last piece sent twice.
func TestInputIsResumed(t *testing.T) {
	i, r := newInput(t)
	const total = 5*Window + 3
	done := make(chan error, 1)
	go func() {
		var err error
		for off := int64(0); off < total && err == nil; {
			again, errOpen := OpenInput(i.file.Name())
			if errOpen != nil {
				err = errOpen
				break
			}
			back := max(0, off-1000)
			p := pattern(back, min(77_777, total-back))
			off, err = again.Append(t.Context(), back, p, back+int64(len(p)) == total)
			again.Close()
		}
		done <- err
	}()
	if got := take(t, r, 0, total+1); got != total {
		t.Errorf("took %d bytes; want %d", got, total)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestAppendWaitsForTheProgram(t *testing.T) {
	i, r := newInput(t)
	if size, err := i.Append(t.Context(), 0, pattern(0, Window), false); size != Window || err != nil {
		t.Fatal(size, err)
	}
	gone := errors.New("the client has gone")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(gone)
	if size, err := i.Append(ctx, Window, []byte("x"), false); size != Window || !errors.Is(err, gone) {
		t.Errorf("append to a full input: %d, %v; want %d, %v", size, err, Window, gone)
	}
	if size, err := i.Append(ctx, Window-1, nil, false); size != Window || err != nil {
		t.Errorf("what needs no room: %d, %v; want %d", size, err, Window)
	}
	done := make(chan error, 1)
	go func() {
		_, err := i.Append(t.Context(), Window, pattern(Window, 9), true)
		done <- err
	}()
	if got := take(t, r, 0, 2*Window); got != Window+9 {
		t.Errorf("took %d; want %d", got, Window+9)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// Clients that say the same at once: every byte is there once.
func TestInputsExcludeOneAnother(t *testing.T) {
	i, r := newInput(t)
	const total = Window / 2
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			mine, err := OpenInput(i.file.Name())
			if err != nil {
				t.Error(err)
				return
			}
			defer mine.Close()
			for off := int64(0); off < total; {
				if off, err = mine.Append(t.Context(), off, pattern(off, min(1013, total-off)), false); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	if size, err := r.Size(); err != nil || size != total {
		t.Errorf("size %d, %v; want %d", size, err, total)
	}
	take(t, r, 0, total)
}
