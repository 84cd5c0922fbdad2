package journal

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// retry is the pause before a disk that takes nothing is tried again.
const retry = 250 * time.Millisecond

// Writer appends to a journal.
type Writer struct {
	file  *os.File // nil: not made yet; once made it stays
	spec  Spec
	size  int64 // of the stream so far
	start int64 // of the kept bytes, as known; a multiple of Chunk
	lost  bool  // the stream is ahead of the file: see lose

	lift    atomic.Int64  // bytes beyond the bound that are admitted once
	lifted  chan struct{} // tells Write of a lift
	closed  chan struct{}
	closing sync.Once
	making  sync.Mutex // held while file is set, and while closed is closed
	user    user
}

// Create makes the journal of s. A file, link or anything else of that name is an
// error: the folder may be readable to others, and a stream never continues one
// that another writer began.
func Create(s Spec) (*Writer, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	w := &Writer{spec: s, lifted: make(chan struct{}, 1), closed: make(chan struct{})}
	if s.Late {
		return w, nil
	}
	fd, err := create(s.Path, unix.O_WRONLY)
	if err != nil {
		return nil, fmt.Errorf("create journal: %w", err)
	}
	w.file = os.NewFile(fd, s.Path)
	return w, nil
}

func create(path string, flag int) (fd uintptr, err error) {
	n, err := unix.Open(path, flag|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return 0, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return uintptr(n), nil
}

// Write appends p. With Block it waits, while the journal is full, for a Reader that
// releases, and while the disk takes nothing, for space. Else it drops the oldest bytes
// that exceed the bound, or that a full disk has no space for, and if there are none, p:
// the stream's offset counts all the same, so a Reader sees a jump. It returns os.ErrClosed
// if Close comes first, with what of p is in the journal; another error only without Block,
// when all of p is written and no hole could be made.
func (w *Writer) Write(p []byte) (n int, err error) {
	if err := w.come(); err != nil {
		return 0, err
	}
	for n < len(p) {
		room, err := w.room(int64(len(p) - n))
		if err != nil {
			return n, err
		}
		wrote, err := w.append(p[n : n+int(room)])
		n += wrote
		if err != nil {
			return n, err
		}
	}
	return n, w.trim()
}

// append writes what the disk takes, and settles what it does not.
func (w *Writer) append(p []byte) (n int, err error) {
	if w.lost {
		return w.lose(p)
	}
	n, err = writeAt(w.file, p, w.size)
	w.size += int64(n)
	switch {
	case err == nil:
		return n, nil
	case errors.Is(err, os.ErrClosed):
		return n, fmt.Errorf("append to journal: %w", err)
	case w.spec.Block:
		return n, w.pause(retry)
	case w.shrink():
		return n, nil
	}
	lost, err := w.lose(p[n:])
	return n + lost, err
}

// trim punches after writing, not before: a reader must never see the journal keep
// less than its bound.
func (w *Writer) trim() error {
	start := chunks(w.size - w.spec.Max)
	if w.spec.Block || start < w.start+w.spec.step() {
		return nil
	}
	if err := punch(w.file, w.start, start); err != nil {
		return fmt.Errorf("drop the oldest bytes of journal %s: %w", w.file.Name(), err)
	}
	w.start = start
	return nil
}

// Size is the length of the stream so far.
func (w *Writer) Size() int64 { return w.size }

// Lift admits n bytes beyond the bound: what a program that has ended left behind in
// its pipe, say, must not wait for a Reader that may never come.
func (w *Writer) Lift(n int64) {
	w.lift.Add(n)
	select {
	case w.lifted <- struct{}{}:
	default:
	}
}

// Close ends writing, also from another goroutine while Write is under way. It does
// not remove the file, and none is made after it.
func (w *Writer) Close() error {
	w.making.Lock()
	w.closing.Do(func() { close(w.closed) })
	file := w.file
	w.making.Unlock()
	w.user.close()
	if file == nil {
		return nil
	}
	return file.Close()
}
