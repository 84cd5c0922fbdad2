package journal

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Await makes the journal of s empty if it is not there, so that a Reader can follow what
// its Writer has written nothing to yet. Only one that is Late has such a Writer.
func Await(s Spec) error {
	fd, err := create(s.Path, unix.O_WRONLY)
	if errors.Is(err, os.ErrExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("make journal: %w", err)
	}
	return unix.Close(int(fd))
}

// come makes the file if it is not there yet. It tries until it succeeds or Close comes.
func (w *Writer) come() error {
	for {
		err := w.make()
		if err == nil || errors.Is(err, os.ErrClosed) {
			return err
		}
		if err := w.pause(retry); err != nil {
			return err
		}
	}
}

func (w *Writer) make() error {
	w.making.Lock()
	defer w.making.Unlock()
	if w.file != nil {
		return nil
	}
	select {
	case <-w.closed:
		return fmt.Errorf("make journal: %w", os.ErrClosed)
	default:
	}
	fd, err := create(w.spec.Path, unix.O_WRONLY)
	if errors.Is(err, os.ErrExist) {
		fd, err = openEmpty(w.spec.Path)
	}
	if err != nil {
		return fmt.Errorf("make journal: %w", err)
	}
	w.file = os.NewFile(fd, w.spec.Path)
	return nil
}

// openEmpty opens what Await has made, and nothing that another Writer began.
func openEmpty(path string) (uintptr, error) {
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return 0, &os.PathError{Op: "open", Path: path, Err: err}
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG || st.Size > 0 {
		return 0, errors.Join(fmt.Errorf("%s is there and not an empty file", path), err, unix.Close(fd))
	}
	return uintptr(fd), nil
}
