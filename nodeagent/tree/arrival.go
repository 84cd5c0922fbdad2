package tree

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// TempPrefix begins the names of the folders in which Arrivals wait, beside where they
// are going.
const TempPrefix = ".brig-"

// arrived is what waits in such a folder.
const arrived = "arrived"

// Arrival is one file or tree on its way into a folder. It is out of sight until it is
// put in its place, and Close removes all that was not. Not for use by several
// goroutines.
type Arrival struct {
	dir     *os.File // where it goes
	above   *os.Root // the same
	waiting string   // its folder there
	root    *os.Root // the same
}

// Arrive prepares for something to be made in dir, a folder that is there. Close must be
// called.
func Arrive(dir string) (*Arrival, error) {
	above, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	a := &Arrival{above: above}
	if err := a.begin(); err != nil {
		return nil, errors.Join(err, a.Close())
	}
	return a, nil
}

func (a *Arrival) begin() (err error) {
	if a.dir, err = a.above.Open("."); err != nil {
		return err
	}
	name := TempPrefix + rand.Text()[:12]
	if err := a.above.Mkdir(name, 0o700); err != nil {
		return err
	}
	a.waiting = name
	a.root, err = a.above.OpenRoot(name)
	return err
}

// Unpack reads an archive, whose top element waits then.
func (a *Arrival) Unpack(r io.Reader, limits Limits) (Summary, error) {
	return unpack(r, a.root, arrived, limits)
}

// Create makes the file that waits, its owner's alone.
func (a *Arrival) Create() (*os.File, error) {
	return a.root.OpenFile(arrived, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
}

// Info is about what waits.
func (a *Arrival) Info() (fs.FileInfo, error) { return a.root.Lstat(arrived) }

// Put puts what waits in its place, as name in the folder. What is there already is an
// error of fs.ErrExist.
func (a *Arrival) Put(name string) error {
	if err := element(name); err != nil {
		return err
	}
	err := a.rename(name, unix.RENAME_NOREPLACE)
	if !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOSYS) {
		return err
	}
	// A filesystem without that flag: who makes the same name in this instant is
	// replaced, if it is a file or an empty folder.
	if _, err := a.above.Lstat(name); err == nil {
		return &fs.PathError{Op: "make", Path: name, Err: unix.EEXIST}
	}
	return a.rename(name, 0)
}

// Over puts a file or a link in its place, also over one that is there; a folder there
// is an error.
func (a *Arrival) Over(name string) error {
	if err := element(name); err != nil {
		return err
	}
	return a.rename(name, 0)
}

// Replace puts what waits in its place and removes what was there, whatever it was. Who
// looks sees the one or the other; where the filesystem cannot exchange two names there
// is an instant in which there is neither. A folder that overlayfs has from a lower
// layer cannot be renamed at all (EXDEV).
func (a *Arrival) Replace(name string) error {
	if err := element(name); err != nil {
		return err
	}
	err := a.rename(name, unix.RENAME_EXCHANGE)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return a.Put(name)
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOSYS):
		return a.swap(name)
	}
	return err
}

// swap moves what is at name into the folder of what waits, and that out of it.
func (a *Arrival) swap(name string) error {
	const old = "old"
	if err := a.above.Rename(name, filepath.Join(a.waiting, old)); err != nil {
		return err
	}
	err := a.Put(name)
	if err != nil {
		back := a.above.Rename(filepath.Join(a.waiting, old), name)
		return errors.Join(err, back)
	}
	return nil
}

func (a *Arrival) rename(name string, flags uint) error {
	fd := int(a.dir.Fd())
	from := filepath.Join(a.waiting, arrived)
	if err := unix.Renameat2(fd, from, fd, name, flags); err != nil {
		return &os.LinkError{Op: "rename", Old: from, New: name, Err: err}
	}
	return nil
}

// element refuses what would name something outside of the folder, or the folder.
func element(name string) error {
	if name == "" || name == "." || name == ".." || filepath.Base(name) != name {
		return fmt.Errorf("%q is no name of a file: %w", name, fs.ErrInvalid)
	}
	return nil
}

// Close removes what was not put in its place, and what was replaced.
func (a *Arrival) Close() error {
	var errs []error
	if a.waiting != "" {
		errs = append(errs, removeAll(a.above, a.waiting))
	}
	if a.root != nil {
		errs = append(errs, a.root.Close())
	}
	if a.dir != nil {
		errs = append(errs, a.dir.Close())
	}
	return errors.Join(append(errs, a.above.Close())...)
}

// removeAll also removes folders that their owner must not write.
func removeAll(root *os.Root, name string) error {
	err := root.RemoveAll(name)
	if !errors.Is(err, fs.ErrPermission) {
		return err
	}
	unlock(root, name)
	return root.RemoveAll(name)
}

// unlock makes the folders of a tree its owner's to change, as far as it can.
func unlock(root *os.Root, name string) {
	if root.Chmod(name, 0o700) != nil {
		return
	}
	dir, err := root.OpenFile(name, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return
	}
	entries, _ := dir.ReadDir(-1) // what is not listed stays, and RemoveAll says so
	_ = dir.Close()
	for _, e := range entries {
		if e.IsDir() {
			unlock(root, filepath.Join(name, e.Name()))
		}
	}
}
