package journal

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// ErrGap is what an Append is whose bytes do not continue the stream, or whose end is
// not the stream's: the size that comes with it is the offset to go on from.
var ErrGap = errors.New("the offset does not continue the input")

// ErrComplete is what an Append is that would go on after the end.
var ErrComplete = errors.New("the input has ended")

// Input appends to the journal that a program's stdin is read from. Whoever appends
// names the offset, so that a client or a process that died may say the same again.
// Several Inputs of one file, in any processes, exclude one another while they write.
type Input struct {
	file *os.File
	user user
}

// CreateInput makes an empty Input. Anything else of that name is an error.
func CreateInput(path string) error {
	if err := checkPath(path); err != nil {
		return err
	}
	fd, err := create(path, unix.O_WRONLY)
	if err != nil {
		return fmt.Errorf("create input: %w", err)
	}
	return unix.Close(int(fd))
}

// OpenInput opens what CreateInput has made, complete or not.
func OpenInput(path string) (*Input, error) {
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open input: %w", &os.PathError{Op: "open", Path: path, Err: err})
	}
	f := os.NewFile(uintptr(fd), path)
	if fi, err := f.Stat(); err != nil || !fi.Mode().IsRegular() {
		return nil, errors.Join(fmt.Errorf("open input: %s is not a regular file", path), err, f.Close())
	}
	return &Input{file: f}, nil
}

// Append adds p, whose first byte is the stream's byte offset, but for what is there
// already; eof says that nothing follows. It waits, as long as ctx allows, while Window
// and more is kept for the program. Whatever it returns, size is how far the stream goes:
// up to there it is the program's, also if this process dies now. On an error part of p
// may be. Errors: ErrGap, ErrComplete, ctx's cause, and those of the disk.
func (i *Input) Append(ctx context.Context, offset int64, p []byte, eof bool) (size int64, err error) {
	if offset < 0 {
		return 0, fmt.Errorf("append to input at %d: %w", offset, os.ErrInvalid)
	}
	for {
		size, full, err := i.try(offset, p, eof)
		if !full {
			return size, err
		}
		if err := i.awaitTaken(ctx); err != nil {
			return size, err
		}
	}
}

// try is one attempt, with the right to write.
func (i *Input) try(offset int64, p []byte, eof bool) (size int64, full bool, err error) {
	if err := i.flock(unix.LOCK_EX); err != nil {
		return 0, false, fmt.Errorf("lock input: %w", err)
	}
	defer func() { err = errors.Join(err, i.flock(unix.LOCK_UN)) }()
	fi, err := i.file.Stat()
	if err != nil {
		return 0, false, fmt.Errorf("size of input: %w", err)
	}
	size = fi.Size()
	end := offset + int64(len(p))
	switch {
	case offset > size:
		return size, false, ErrGap
	case eof && end < size:
		return size, false, ErrGap
	case end > size && fi.Mode()&complete == 0:
		return size, false, ErrComplete
	case end > size:
		start, err := startOf(i.file, 0)
		if err != nil {
			return size, false, fmt.Errorf("find the oldest byte of input: %w", err)
		}
		if size-start >= Window {
			return size, true, nil
		}
		n, err := writeAt(i.file, p[size-offset:], size)
		size += int64(n)
		if err != nil {
			return size, false, fmt.Errorf("append to input: %w", err)
		}
	}
	if eof {
		if err := i.file.Chmod(fi.Mode().Perm() &^ complete); err != nil {
			return size, false, fmt.Errorf("end input: %w", err)
		}
	}
	return size, false, nil
}

func (i *Input) flock(how int) error {
	return control(i.file, func(fd int) error {
		for {
			if err := unix.Flock(fd, how); err != unix.EINTR {
				return err
			}
		}
	})
}

// awaitTaken returns when the program may have taken some of what waits.
func (i *Input) awaitTaken(ctx context.Context) error {
	wake, disarm := i.user.arm(i.file)
	defer disarm()
	fi, err := i.file.Stat()
	if err != nil {
		return fmt.Errorf("size of input: %w", err)
	}
	start, err := startOf(i.file, 0)
	if err != nil || fi.Size()-start < Window {
		return err
	}
	select {
	case <-wake:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Close frees what the Input holds. It does not end the stream.
func (i *Input) Close() error {
	i.user.close()
	return i.file.Close()
}
