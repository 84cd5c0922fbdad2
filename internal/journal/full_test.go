package journal

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"brig/internal/require"
)

// smallDisk is a file system of its own with room for size bytes.
func smallDisk(t *testing.T, size string) string {
	t.Helper()
	require.Root(t)
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// fill takes all the space there is and returns what gives it back.
func fill(t *testing.T, dir string) (free func()) {
	t.Helper()
	f, err := os.Create(filepath.Join(dir, "filler"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for {
		if _, err := f.Write(make([]byte, 4096)); errors.Is(err, unix.ENOSPC) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	return func() {
		if err := os.Remove(f.Name()); err != nil {
			t.Error(err)
		}
	}
}

// collect reads what is kept from off on, checks that it is the stream's, and returns
// where it begins and ends.
func collect(t *testing.T, r *Reader, off int64) (from, to int64) {
	t.Helper()
	buf := make([]byte, 7919)
	from = -1
	for {
		n, at, err := r.ReadAt(buf, off)
		if errors.Is(err, io.EOF) {
			if from < 0 {
				from = at
			}
			return from, at
		}
		if err != nil || !bytes.Equal(buf[:n], pattern(at, int64(n))) {
			t.Fatalf("asked for %d, got %d bytes at %d, %v, that are not the stream's", off, n, at, err)
		}
		if from < 0 {
			from = at
		} else if at != off {
			t.Fatalf("a hole within the kept bytes, from %d to %d", off, at)
		}
		off = at + int64(n)
	}
}

// On a full disk a journal that drops the oldest goes on in the space it has: the newest
// bytes are kept, and their offsets are right.
func TestFullDiskCostsTheOldestBytes(t *testing.T) {
	dir := smallDisk(t, "4m")
	w, err := Create(Spec{Path: filepath.Join(dir, "out"), Max: 64 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	r, err := Open(w.spec.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for w.Size() < 20<<20 {
		write(t, w, 8191)
	}
	from, to := collect(t, r, 0)
	if to != w.Size() || to-from < 2<<20 || from%Chunk != 0 {
		t.Errorf("kept %d to %d of %d; want at least 2 MiB, to the end", from, to, w.Size())
	}
}

// Where not a byte can be kept the offset counts all the same.
func TestFullDiskShowsAsAJump(t *testing.T) {
	for _, before := range []int64{0, 100, Chunk, 3*Chunk + 17} {
		dir := smallDisk(t, "4m")
		w, err := Create(Spec{Path: filepath.Join(dir, "out"), Max: 64 << 20})
		if err != nil {
			t.Fatal(err)
		}
		r, err := Open(w.spec.Path)
		if err != nil {
			t.Fatal(err)
		}
		write(t, w, before)
		free := fill(t, dir)
		for w.Size() < before+100_003 {
			write(t, w, 4093)
			fill(t, dir) // what the journal gave up, another one takes
		}
		lost := w.Size()
		if size, err := r.Size(); err != nil || size != lost {
			t.Errorf("%d bytes before: size %d, %v; want %d", before, size, err, lost)
		}
		if from, to := collect(t, r, 0); to != lost {
			t.Errorf("%d bytes before: kept %d to %d; want to %d", before, from, to, lost)
		}
		free()
		write(t, w, 5*Chunk)
		from, to := collect(t, r, 0)
		if to != w.Size() || from%Chunk != 0 || from < lost-4093 || from > lost+Chunk {
			t.Errorf("%d bytes before, full until %d: kept %d to %d of %d; want from the next chunk, to the end", before, lost, from, to, w.Size())
		}
		w.Close()
		r.Close()
	}
}

// With Block a full disk makes the program wait, and nothing is lost.
func TestBlockWaitsForSpace(t *testing.T) {
	dir := smallDisk(t, "4m")
	w, err := Create(Spec{Path: filepath.Join(dir, "out"), Max: 64 << 20, Block: true})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	r, err := Open(w.spec.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	free := fill(t, dir)
	filler := filepath.Join(dir, "filler")
	if fi, err := os.Stat(filler); err != nil || os.Truncate(filler, fi.Size()-4096) != nil {
		t.Fatal(err)
	}
	const total = 40*Chunk + 3
	done := inBackground(w, total, 8191)
	if err := r.Wait(t.Context(), 4095); err != nil { // that page was the last
		t.Fatal(err)
	}
	select {
	case err := <-done:
		t.Fatalf("written to a full disk, %v", err)
	default:
	}
	free()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	follow(t, r, w.spec, 0, total)
}

// A full disk refuses input with what is kept of it acknowledged, and takes the rest later.
func TestInputOnAFullDisk(t *testing.T) {
	dir := smallDisk(t, "1m")
	path := filepath.Join(dir, "in")
	if err := CreateInput(path); err != nil {
		t.Fatal(err)
	}
	i, err := OpenInput(path)
	if err != nil {
		t.Fatal(err)
	}
	defer i.Close()
	r, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := os.WriteFile(filepath.Join(dir, "some"), make([]byte, 700<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	free := fill(t, dir)
	if err := os.Truncate(filepath.Join(dir, "some"), 500<<10); err != nil { // some room, not enough
		t.Fatal(err)
	}
	const total = 400 << 10
	size, err := i.Append(t.Context(), 0, pattern(0, total), true)
	if !errors.Is(err, unix.ENOSPC) || size <= 0 || size >= total {
		t.Fatalf("append to a full disk: %d, %v; want a part, ENOSPC", size, err)
	}
	if done, err := r.Complete(); done || err != nil {
		t.Fatalf("complete %v, %v, with a part missing", done, err)
	}
	free()
	if err := os.Remove(filepath.Join(dir, "some")); err != nil {
		t.Fatal(err)
	}
	if size, err = i.Append(t.Context(), size, pattern(size, total-size), true); size != total || err != nil {
		t.Fatalf("append the rest: %d, %v", size, err)
	}
	if got := take(t, r, 0, total+1); got != total {
		t.Errorf("took %d; want %d", got, total)
	}
}
