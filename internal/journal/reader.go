package journal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/fsnotify/fsnotify"
	"golang.org/x/sys/unix"
)

// Reader reads a journal, also while it is written.
type Reader struct {
	file  *os.File
	watch *fsnotify.Watcher // made by the first Wait
}

// Open opens the journal at path for reading.
func Open(path string) (*Reader, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open journal: %w", &os.PathError{Op: "open", Path: path, Err: err})
	}
	return &Reader{file: os.NewFile(uintptr(fd), path)}, nil
}

// Size is the length of the stream so far, dropped bytes included.
func (r *Reader) Size() (int64, error) {
	fi, err := r.file.Stat()
	if err != nil {
		return 0, fmt.Errorf("size of journal: %w", err)
	}
	return fi.Size(), nil
}

// Start is the offset of the oldest kept byte; the size if there is none.
func (r *Reader) Start() (start int64, err error) {
	err = control(r.file, func(fd int) (err error) { start, err = unix.Seek(fd, 0, unix.SEEK_DATA); return err })
	if errors.Is(err, unix.ENXIO) {
		return r.Size()
	}
	if err != nil {
		return 0, fmt.Errorf("find the oldest byte of journal %s: %w", r.file.Name(), err)
	}
	return start, nil
}

// ReadAt fills p from the stream's offset off on, or from the oldest kept byte if
// that is later: at tells the offset of p[0]. It returns io.EOF, and n = 0, if the
// stream has not grown beyond off.
func (r *Reader) ReadAt(p []byte, off int64) (n int, at int64, err error) {
	if off < 0 {
		return 0, 0, fmt.Errorf("read journal at %d: %w", off, os.ErrInvalid)
	}
	start, err := r.Start()
	if err != nil {
		return 0, 0, err
	}
	at = max(off, start)
	for {
		n, err = r.file.ReadAt(p, at)
		if err != nil && !errors.Is(err, io.EOF) {
			return 0, at, fmt.Errorf("read journal: %w", err)
		}
		// The writer may have dropped bytes between the look and the read, which
		// then came as zeros. Bytes at and after the start seen now are real.
		if start, err = r.Start(); err != nil {
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

// Wait returns nil as soon as the stream is longer than off, or ctx's cause. A
// caller that learns that the program has ended cancels ctx and reads once more:
// everything the program wrote is in the journal before its end is known.
func (r *Reader) Wait(ctx context.Context, off int64) error {
	if err := r.startWatching(); err != nil {
		return err
	}
	for {
		size, err := r.Size()
		if err != nil {
			return err
		}
		if size > off {
			return nil
		}
		select {
		case _, ok := <-r.watch.Events:
			if !ok {
				return fmt.Errorf("wait for journal: %w", os.ErrClosed)
			}
		case err := <-r.watch.Errors:
			// An overflow of the queue loses no bytes, only wake-ups; look again.
			if !errors.Is(err, fsnotify.ErrEventOverflow) {
				return fmt.Errorf("wait for journal: %w", err)
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// startWatching comes before the first look at the size, so that nothing written
// in between is missed.
func (r *Reader) startWatching() error {
	if r.watch != nil {
		return nil
	}
	watch, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watch journal: %w", err)
	}
	if err := watch.Add(r.file.Name()); err != nil {
		return errors.Join(fmt.Errorf("watch journal: %w", err), watch.Close())
	}
	r.watch = watch
	return nil
}

// Close frees what the Reader holds.
func (r *Reader) Close() error {
	if r.watch != nil {
		return errors.Join(r.watch.Close(), r.file.Close())
	}
	return r.file.Close()
}
