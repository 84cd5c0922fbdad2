package guest

import (
	"errors"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"brig/nodeagent/files/wire"
	"brig/nodeagent/tree"
)

func (s *server) write(r wire.Request) (size uint64, err error) {
	if r.Archive {
		return s.unpack(r)
	}
	dest, had, err := destination(r.Path)
	if err != nil {
		return 0, err
	}
	dir, name := split(dest)
	a, err := tree.Arrive(dir)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, a.Close()) }()
	f, err := a.Create()
	if err != nil {
		return 0, err
	}
	n, err := io.Copy(f, s.in)
	if err == nil {
		err = adopt(f, had, r.Mode)
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return 0, err
	}
	return uint64(n), a.Over(name)
}

// destination follows the links at p and tells what is there, nil for nothing. It is
// refused early, before anything is sent, what could not be replaced in the end.
func destination(p string) (dest string, had os.FileInfo, err error) {
	dest, err = filepath.EvalSymlinks(p)
	switch {
	case errors.Is(err, os.ErrNotExist):
		if _, lerr := os.Lstat(p); lerr == nil {
			return "", nil, &wire.Failure{Class: wire.NotFound, Text: p + " is a link that leads nowhere"}
		}
		if strings.HasSuffix(p, "/") {
			return "", nil, err
		}
		return p, nil, nil
	case err != nil:
		return "", nil, err
	}
	if had, err = os.Lstat(dest); err != nil {
		return "", nil, err
	}
	switch {
	case had.IsDir():
		return "", nil, refuse(p, "is a directory: name a file in it")
	case !had.Mode().IsRegular():
		return "", nil, refuse(p, "is not a file: devices, FIFOs and sockets are not written")
	}
	if err := unix.Access(dest, unix.W_OK); err != nil {
		return "", nil, &os.PathError{Op: "write", Path: p, Err: err}
	}
	return dest, had, nil
}

// adopt gives f the owner and the mode of what it replaces, or the mode asked for.
func adopt(f *os.File, had os.FileInfo, mode uint32) error {
	if had == nil {
		if mode == 0 {
			mode = 0o644
		}
		return f.Chmod(modeOf(mode))
	}
	st, ok := had.Sys().(*syscall.Stat_t)
	if !ok {
		return errors.New("the sandbox's kernel does not tell whose a file is")
	}
	now, err := f.Stat()
	if err != nil {
		return err
	}
	if mine, ok := now.Sys().(*syscall.Stat_t); !ok || mine.Uid != st.Uid || mine.Gid != st.Gid {
		if err := f.Chown(int(st.Uid), int(st.Gid)); err != nil {
			return err
		}
	}
	return f.Chmod(modeOf(st.Mode & 0o7777))
}

func (s *server) unpack(r wire.Request) (size uint64, err error) {
	dir, name := split(r.Path)
	if !r.Replace {
		if _, err := os.Lstat(r.Path); err == nil {
			return 0, &os.PathError{Op: "write", Path: r.Path, Err: syscall.EEXIST}
		}
	}
	a, err := tree.Arrive(dir)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, a.Close()) }()
	summary, err := a.Unpack(s.in, tree.Unbounded())
	if err != nil {
		return 0, err
	}
	put := a.Put
	if r.Replace {
		put = a.Replace
	}
	if err := put(name); err != nil {
		return 0, err
	}
	return uint64(summary.Bytes), nil
}

func makeDirectory(r wire.Request) error {
	mode := modeOf(r.Mode)
	if r.Mode == 0 {
		mode = 0o755
	}
	p := path.Clean(r.Path)
	err := os.Mkdir(p, mode)
	if r.Parents && errors.Is(err, os.ErrExist) {
		if fi, serr := os.Stat(p); serr == nil && fi.IsDir() {
			return nil
		}
	}
	if r.Parents && errors.Is(err, os.ErrNotExist) {
		if err := os.MkdirAll(path.Dir(p), 0o755); err != nil {
			return err
		}
		err = os.Mkdir(p, mode)
	}
	if err != nil {
		return err
	}
	return os.Chmod(p, mode) // the umask took from it
}

func remove(r wire.Request) error {
	if path.Clean(r.Path) == "/" {
		return refuse(r.Path, "is not removed: remove the sandbox")
	}
	if _, err := os.Lstat(r.Path); err != nil || !r.Recursive {
		return errors.Join(err, os.Remove(r.Path))
	}
	return os.RemoveAll(r.Path)
}
