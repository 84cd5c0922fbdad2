package operation

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path"

	"golang.org/x/sys/unix"
)

// temporary is what is written before it takes its place: one name, so that what a killed
// hook left is found. Nobody else writes in a root before its container starts.
const temporary = ".brig-hook"

// mkdirAll opens the folder at name for writing in it, and makes what is missing of it. A
// link on the way leads inside the root or is an error: nothing is made behind one that
// leads nowhere. It goes into no mount, where what is written would be the host's.
func (r *Root) mkdirAll(name string) (*os.File, error) {
	const flags, resolve = unix.O_DIRECTORY, unix.RESOLVE_NO_XDEV
	dir, err := r.lookup(name, flags, resolve)
	if errors.Is(err, unix.EXDEV) {
		return nil, fmt.Errorf("nothing is written into a mount of the host's: %w", err)
	}
	if !errors.Is(err, unix.ENOENT) || name == "/" {
		return dir, err
	}
	parent, err := r.mkdirAll(path.Dir(name))
	if err != nil {
		return nil, err
	}
	defer parent.Close()
	base := path.Base(name)
	err = unix.Mkdirat(int(parent.Fd()), base, 0o755)
	if errors.Is(err, unix.EEXIST) {
		return nil, fmt.Errorf("%q is a link that leads nowhere in the container's root: %w", name, err)
	}
	if err != nil {
		return nil, &os.PathError{Op: "make the folder", Path: name, Err: err}
	}
	fd, err := unix.Openat(int(parent.Fd()), base, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open the folder", Path: name, Err: err}
	}
	return withMode(os.NewFile(uintptr(fd), name), 0o755)
}

// withMode gives what was just made its mode, whatever the process' umask is.
func withMode(f *os.File, mode os.FileMode) (*os.File, error) {
	if err := os.Chmod(fdPath(f), mode); err != nil {
		return nil, errors.Join(fmt.Errorf("change the mode of %q: %w", f.Name(), err), f.Close())
	}
	return f, nil
}

// replaceLink puts a link in the place of what is called name in dir, in one step.
func replaceLink(dir *os.File, name, target string) error {
	at := int(dir.Fd())
	if is, err := readlinkat(at, name); err == nil && is == target {
		return nil
	}
	if err := discard(at); err != nil {
		return err
	}
	if err := unix.Symlinkat(target, at, temporary); err != nil {
		return &os.PathError{Op: "make a link in", Path: dir.Name(), Err: err}
	}
	return place(dir, name)
}

// replaceFile puts a file of everybody's to read in the place of what is called name in
// dir, in one step.
func replaceFile(dir *os.File, name string, content []byte) (err error) {
	at := int(dir.Fd())
	if same(at, name, content) {
		return nil
	}
	if err := discard(at); err != nil {
		return err
	}
	fd, err := unix.Openat(at, temporary, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return &os.PathError{Op: "make a file in", Path: dir.Name(), Err: err}
	}
	f := os.NewFile(uintptr(fd), name)
	_, err = f.Write(content)
	if err = errors.Join(err, f.Chmod(0o644), f.Close()); err != nil {
		return errors.Join(fmt.Errorf("write %q: %w", path.Join(dir.Name(), name), err), discard(at))
	}
	return place(dir, name)
}

// place gives what is called temporary its name.
func place(dir *os.File, name string) error {
	at := int(dir.Fd())
	if err := unix.Renameat(at, temporary, at, name); err != nil {
		return errors.Join(&os.PathError{Op: "replace", Path: path.Join(dir.Name(), name), Err: err}, discard(at))
	}
	return nil
}

// discard removes what a hook left that was killed.
func discard(at int) error {
	if err := unix.Unlinkat(at, temporary, 0); err != nil && !errors.Is(err, unix.ENOENT) {
		return &os.PathError{Op: "remove", Path: temporary, Err: err}
	}
	return nil
}

// same tells whether a regular file has this content and mode already.
func same(at int, name string, content []byte) bool {
	f, err := openRegular(at, name, unix.O_NOFOLLOW)
	if err != nil {
		return false
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || info.Size() != int64(len(content)) || info.Mode() != 0o644 {
		return false
	}
	is, err := io.ReadAll(io.LimitReader(f, int64(len(content))+1))
	return err == nil && bytes.Equal(is, content)
}

func readlinkat(at int, name string) (string, error) {
	buf := make([]byte, maxPath+1)
	n, err := unix.Readlinkat(at, name, buf)
	if err != nil {
		return "", err
	}
	return string(buf[:n]), nil
}
