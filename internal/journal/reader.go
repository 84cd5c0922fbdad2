package journal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// complete is what the mode of an Input lacks once it is complete.
const complete = 0o200

// Reader reads a journal, also while it is written.
type Reader struct {
	file  *os.File
	punch *os.File // the same file, for Release; nil: not opened yet
	start int64    // as last seen
	freed int64    // released so far
	user  user
}

// Open opens the journal at path for reading.
func Open(path string) (*Reader, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open journal: %w", &os.PathError{Op: "open", Path: path, Err: err})
	}
	f := os.NewFile(uintptr(fd), path)
	if fi, err := f.Stat(); err != nil || !fi.Mode().IsRegular() {
		return nil, errors.Join(fmt.Errorf("open journal: %s is not a regular file", path), err, f.Close())
	}
	return &Reader{file: f}, nil
}

// Size is the length of the stream so far, dropped bytes included.
func (r *Reader) Size() (int64, error) {
	size, _, err := r.state()
	return size, err
}

// Complete tells whether the journal is an Input that will not grow any more.
func (r *Reader) Complete() (bool, error) {
	_, complete, err := r.state()
	return complete, err
}

func (r *Reader) state() (size int64, ended bool, err error) {
	fi, err := r.file.Stat()
	if err != nil {
		return 0, false, fmt.Errorf("size of journal: %w", err)
	}
	return fi.Size(), fi.Mode()&complete == 0, nil
}

// Start is the offset of the oldest kept byte; the size if there is none.
func (r *Reader) Start() (int64, error) {
	start, err := startOf(r.file, r.start)
	if err != nil {
		return 0, fmt.Errorf("find the oldest byte of journal %s: %w", r.file.Name(), err)
	}
	r.start = start
	return start, nil
}

// ReadAt fills p from the stream's offset off on, or from the oldest kept byte if
// that is later: at tells the offset of p[0]. It returns io.EOF, and n = 0, if the
// stream has not grown beyond at.
func (r *Reader) ReadAt(p []byte, off int64) (n int, at int64, err error) {
	if off < 0 {
		return 0, 0, fmt.Errorf("read journal at %d: %w", off, os.ErrInvalid)
	}
	at = max(off, r.start)
	for {
		n, err = r.file.ReadAt(p, at)
		if err != nil && !errors.Is(err, io.EOF) {
			return 0, at, fmt.Errorf("read journal: %w", err)
		}
		// Bytes of a hole come as zeros. Those at and after the start seen now are real:
		// it only ever moves on.
		start, err := r.Start()
		if err != nil {
			return 0, at, err
		}
		if start <= at {
			break
		}
		if start < at+int64(n) {
			n, at = copy(p, p[start-at:n]), start
			break
		}
		at = start
	}
	if n == 0 && len(p) > 0 {
		return 0, at, io.EOF
	}
	return n, at, nil
}

// Wait returns nil as soon as the stream is longer than off, or complete, or ctx's cause.
// A caller that learns that the program has ended cancels ctx and reads once more:
// everything the program wrote is in the journal before its end is known.
func (r *Reader) Wait(ctx context.Context, off int64) error {
	for {
		grown, err := r.waitOnce(ctx, off)
		if grown || err != nil {
			return err
		}
	}
}

func (r *Reader) waitOnce(ctx context.Context, off int64) (grown bool, err error) {
	wake, disarm := r.user.arm(r.file)
	defer disarm()
	size, ended, err := r.state()
	if err != nil || ended || size > off {
		return true, err
	}
	select {
	case <-wake:
		return false, nil
	case <-ctx.Done():
		return false, context.Cause(ctx)
	}
}

// Release drops what is whole chunks below upTo, and wakes a Writer or Input that waits
// for that. It is for journals whose bytes wait for their reader: with Block, and Inputs.
// What is dropped for one Reader is gone for all.
func (r *Reader) Release(upTo int64) error {
	if chunks(upTo) <= r.freed {
		return nil
	}
	size, err := r.Size()
	if err != nil {
		return err
	}
	end := chunks(min(upTo, size))
	if end <= r.freed {
		return nil
	}
	if r.punch == nil {
		if r.punch, err = reopen(r.file); err != nil {
			return fmt.Errorf("release journal %s: %w", r.file.Name(), err)
		}
	}
	if err := punch(r.punch, r.freed, end); err != nil {
		return fmt.Errorf("release journal %s: %w", r.file.Name(), err)
	}
	r.freed = end
	return nil
}

// reopen opens the very file for writing: its path may name another one by now, and most
// Readers need no such right.
func reopen(f *os.File) (w *os.File, err error) {
	err = control(f, func(fd int) error {
		w, err = os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", fd), os.O_WRONLY, 0)
		return err
	})
	return w, err
}

// Close frees what the Reader holds.
func (r *Reader) Close() error {
	r.user.close()
	err := r.file.Close()
	if r.punch != nil {
		err = errors.Join(err, r.punch.Close())
	}
	return err
}
