package journal

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Writer appends to a journal.
type Writer struct {
	file  *os.File
	max   int64
	size  int64 // of the stream so far
	start int64 // of the kept bytes; a multiple of Chunk
}

// Create makes the journal of s. A file, link or anything else of that name is an
// error: the folder may be readable to others, and a stream never continues one
// that another writer began.
func Create(s Spec) (*Writer, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	fd, err := unix.Open(s.Path, unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_APPEND|unix.O_WRONLY|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("create journal: %w", &os.PathError{Op: "open", Path: s.Path, Err: err})
	}
	return &Writer{file: os.NewFile(uintptr(fd), s.Path), max: s.Max}, nil
}

// Write appends p, then drops what exceeds the bound. The stream's offset counts
// what was written: after an error n tells how much of p is in the journal.
func (w *Writer) Write(p []byte) (n int, err error) {
	n, err = w.file.Write(p)
	w.size += int64(n)
	if err != nil {
		return n, fmt.Errorf("append to journal: %w", err)
	}
	return n, w.trim()
}

// trim punches after writing, not before: a reader must never see the journal keep
// less than its bound.
func (w *Writer) trim() error {
	start := (w.size - w.max) / Chunk * Chunk
	if start <= w.start {
		return nil
	}
	err := control(w.file, func(fd int) error {
		return unix.Fallocate(fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, w.start, start-w.start)
	})
	if err != nil {
		return fmt.Errorf("drop the oldest bytes of journal %s: %w", w.file.Name(), err)
	}
	w.start = start
	return nil
}

// control lends the descriptor to fn. A Close meanwhile waits: with a number that was
// given to another file, a hole would be punched in that one.
func control(f *os.File, fn func(fd int) error) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var errFn error
	if err := conn.Control(func(fd uintptr) { errFn = fn(int(fd)) }); err != nil {
		return err
	}
	return errFn
}

// Size is the length of the stream so far.
func (w *Writer) Size() int64 { return w.size }

// Close ends writing, also from another goroutine while Write is under way. It does
// not remove the file.
func (w *Writer) Close() error { return w.file.Close() }
