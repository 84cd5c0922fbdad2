package journal

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func newBlocking(t *testing.T, max int64) (*Writer, *Reader) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "out")
	w, err := Create(Spec{Path: path, Max: max, Block: true})
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

// inBackground writes the stream from 0 to total and tells the end of it.
func inBackground(w *Writer, total, piece int64) <-chan error {
	done := make(chan error, 1)
	go func() {
		for off := int64(0); off < total; off += piece {
			if _, err := w.Write(pattern(off, min(piece, total-off))); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	return done
}

// follow reads from off to total, releasing what the journal's spec allows, and checks
// every byte.
func follow(t *testing.T, r *Reader, s Spec, off, total int64) {
	t.Helper()
	buf := make([]byte, 3*Chunk+1)
	for off < total {
		n, at, err := r.ReadAt(buf, off)
		if errors.Is(err, io.EOF) {
			if err := r.Wait(t.Context(), off); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if err != nil || at != off || !bytes.Equal(buf[:n], pattern(at, int64(n))) {
			t.Fatalf("asked for %d, got %d bytes at %d, %v; want the stream's, from there on", off, n, at, err)
		}
		off += int64(n)
		if err := r.Release(s.Read(off)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestBlockLosesNothing(t *testing.T) {
	for _, max := range []int64{2 * Chunk, 3*Chunk + 17, 16 * Chunk} {
		for _, piece := range []int64{8191, Chunk, 5*Chunk + 3} {
			w, r := newBlocking(t, max)
			const total = 60*Chunk + 1
			done := inBackground(w, total, piece)
			follow(t, r, w.spec, 0, total)
			if err := <-done; err != nil {
				t.Fatal(err)
			}
			if size, err := r.Size(); err != nil || size != total {
				t.Errorf("size %d, %v; want %d", size, err, total)
			}
		}
	}
}

func TestBlockWaitsAtTheBound(t *testing.T) {
	w, r := newBlocking(t, 2*Chunk)
	done := inBackground(w, 10*Chunk, Chunk)
	if err := r.Wait(t.Context(), 2*Chunk-1); err != nil {
		t.Fatal(err)
	}
	for range 100 { // the writer has every chance to go too far
		if size, err := r.Size(); err != nil || size != 2*Chunk {
			t.Fatalf("size %d, %v; want %d", size, err, 2*Chunk)
		}
	}
	// A reader that goes without releasing changes nothing; one that comes goes on.
	r.Close()
	again, err := Open(w.spec.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	follow(t, again, w.spec, 0, 10*Chunk)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestCloseAndLiftEndWaiting(t *testing.T) {
	w, r := newBlocking(t, 2*Chunk)
	done := inBackground(w, 4*Chunk, Chunk)
	if err := r.Wait(t.Context(), 2*Chunk-1); err != nil {
		t.Fatal(err)
	}
	w.Lift(Chunk)
	if err := r.Wait(t.Context(), 3*Chunk-1); err != nil {
		t.Fatal(err)
	}
	w.Close()
	if err := <-done; !errors.Is(err, os.ErrClosed) {
		t.Errorf("write after Close: %v; want ErrClosed", err)
	}
	if size, err := r.Size(); err != nil || size != 3*Chunk {
		t.Errorf("size %d, %v; want what was lifted and no more, %d", size, err, 3*Chunk)
	}
}

func TestReleaseKeepsWhatIsNotWhole(t *testing.T) {
	w, r := newBlocking(t, 4*Chunk)
	write(t, w, Chunk+100)
	if err := r.Release(10 * Chunk); err != nil {
		t.Fatal(err)
	}
	start, err := r.Start()
	if err != nil || start != Chunk {
		t.Fatalf("start %d, %v; want %d: half a chunk is not released", start, err, Chunk)
	}
	buf := make([]byte, Chunk)
	if n, at, err := r.ReadAt(buf, 0); err != nil || n != 100 || at != Chunk || !bytes.Equal(buf[:n], pattern(Chunk, 100)) {
		t.Errorf("read %d bytes at %d, %v; want 100 at %d", n, at, err, Chunk)
	}
}

// Two processes' readers of one journal: what the one has read is gone for the other,
// which sees a jump and no zeros.
func TestTwoReaders(t *testing.T) {
	w, fast := newBlocking(t, 2*Chunk)
	slow, err := Open(w.spec.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer slow.Close()
	done := inBackground(w, 20*Chunk, Chunk)
	follow(t, fast, w.spec, 0, 20*Chunk)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 40*Chunk)
	n, at, err := slow.ReadAt(buf, 5)
	if err != nil || at == 5 || at+int64(n) != 20*Chunk || !bytes.Equal(buf[:n], pattern(at, int64(n))) {
		t.Errorf("read %d bytes at %d, %v; want what is kept, to %d", n, at, err, 20*Chunk)
	}
}

// Without inotify instances waiting goes on, by looking.
func TestWaitWithoutInotify(t *testing.T) {
	w, r := newBlocking(t, 2*Chunk)
	r.user.closed, w.user.closed = true, true // as if the kernel refused
	done := inBackground(w, 20*Chunk, Chunk)
	begin := time.Now()
	follow(t, r, w.spec, 0, 20*Chunk)
	if err := <-done; err != nil {
		t.Error(err)
	}
	t.Log("took", time.Since(begin))
}

func TestNothingStaysOpen(t *testing.T) {
	w, r := newBlocking(t, 2*Chunk)
	done := inBackground(w, 20*Chunk, Chunk)
	follow(t, r, w.spec, 0, 20*Chunk)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if wakes.inotify == nil {
		t.Error("nobody has waited: the test shows nothing")
	}
	w.Close()
	r.Close()
	wakes.mu.Lock()
	defer wakes.mu.Unlock()
	if wakes.inotify != nil || wakes.users != 0 || len(wakes.waiting) != 0 {
		t.Errorf("after all is closed: %d users, %d waits, an instance: %v", wakes.users, len(wakes.waiting), wakes.inotify != nil)
	}
}
