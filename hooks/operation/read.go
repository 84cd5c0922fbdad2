package operation

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// openRegular opens a name in a folder for reading, if it is a regular file: an open of
// anything else may wait, or do something.
func openRegular(at int, name string, flags int) (*os.File, error) {
	fd, err := unix.Openat(at, name, unix.O_PATH|unix.O_CLOEXEC|flags, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	return reopen(f)
}

// reopen opens for reading what was only looked up, if it is a regular file.
func reopen(f *os.File) (*os.File, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		return nil, &os.PathError{Op: "read", Path: f.Name(), Err: unix.EISDIR}
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%q is not a regular file (%v): %w", f.Name(), info.Mode(), errdefs.ErrFailedPrecondition)
	}
	fd, err := unix.Open(fdPath(f), unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: f.Name(), Err: err}
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}

// regular opens a regular file in the root for reading.
func (r *Root) regular(name string) (*os.File, error) {
	f, err := r.lookup(name, 0, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return reopen(f)
}

// read returns a regular file of the root, which has at most limit bytes.
func (r *Root) read(name string, limit int64) ([]byte, error) {
	f, err := r.regular(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, fmt.Errorf("read %q: %w", name, err)
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("%q has more than %d bytes: %w", name, limit, errdefs.ErrResourceExhausted)
	}
	return data, nil
}

// list returns the names in a folder that was looked up, at most limit of them.
func list(dir *os.File, limit int) ([]string, error) {
	fd, err := unix.Open(fdPath(dir), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: dir.Name(), Err: err}
	}
	f := os.NewFile(uintptr(fd), dir.Name())
	defer f.Close()
	names, err := f.Readdirnames(limit + 1)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("list %q: %w", dir.Name(), err)
	}
	if len(names) > limit {
		return nil, fmt.Errorf("%q has more than %d files: %w", path.Clean(dir.Name()), limit, errdefs.ErrResourceExhausted)
	}
	return names, nil
}
