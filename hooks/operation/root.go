package operation

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// maxTime is how long a root is good for. Its links can be made to take milliseconds each
// to follow, and there may be thousands; an image of five thousand libraries takes a second.
const maxTime = 30 * time.Second

// Root of a container, on the host, and what will be mounted in it. The zero value refuses
// every operation, and so does one that was opened more than 30 s ago. One goroutine at a
// time.
type Root struct {
	dir    *os.File // O_PATH
	mounts []Mount
	ends   time.Time
}

// OpenRoot opens the folder at path, which is absolute and not the host's own root. The
// mounts are those that are not made yet; a hook of a runtime that made them has none.
func OpenRoot(path string, mounts []Mount) (*Root, error) {
	if !filepath.IsAbs(path) {
		return nil, fmt.Errorf("root %q is not absolute: %w", path, errdefs.ErrInvalidArgument)
	}
	for _, m := range mounts {
		if !filepath.IsAbs(m.Source) || !filepath.IsAbs(m.Destination) {
			return nil, fmt.Errorf("mount of %q at %q: both have to be absolute: %w", m.Source, m.Destination, errdefs.ErrInvalidArgument)
		}
	}
	dir, err := os.OpenFile(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open the container's root: %w", err)
	}
	r := &Root{dir: dir, mounts: mounts, ends: time.Now().Add(maxTime)}
	if err := r.notTheHosts(); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

// Close ends the use of the root.
func (r *Root) Close() error {
	if err := r.opened(); err != nil {
		return err
	}
	return r.dir.Close()
}

// opened tells whether OpenRoot made this root.
func (r *Root) opened() error {
	if r == nil || r.dir == nil {
		return fmt.Errorf("the container's root is not open: %w", errdefs.ErrFailedPrecondition)
	}
	return nil
}

func (r *Root) notTheHosts() error {
	mine, err := r.dir.Stat()
	if err != nil {
		return fmt.Errorf("look at the container's root: %w", err)
	}
	hosts, err := os.Stat("/")
	if err != nil {
		return fmt.Errorf("look at the host's root: %w", err)
	}
	if os.SameFile(mine, hosts) {
		return fmt.Errorf("root %q is the host's own: %w", r.dir.Name(), errdefs.ErrInvalidArgument)
	}
	return nil
}

// lookup resolves name inside the root, without opening what is there: the result is only
// good for looking and as the start of further ways. An absolute link, or one with too many
// "..", leads to the root and on from there.
func (r *Root) lookup(name string, flags, resolve uint64) (*os.File, error) {
	if time.Now().After(r.ends) {
		return nil, fmt.Errorf("open %q in the container's root: not done after %v: %w", name, maxTime, errdefs.ErrResourceExhausted)
	}
	how := unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_CLOEXEC | flags,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS | resolve,
	}
	for range 64 { // EAGAIN: something is renamed or mounted somewhere at this moment
		fd, err := unix.Openat2(int(r.dir.Fd()), path.Clean("/"+name), &how)
		if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return nil, &os.PathError{Op: "open in the container's root", Path: name, Err: err}
		}
		return os.NewFile(uintptr(fd), name), nil
	}
	return nil, fmt.Errorf("open %q in the container's root: it changes all the time: %w", name, errdefs.ErrUnavailable)
}

// real is the path of f, which was opened in the root, as the container would call it.
func (r *Root) real(f *os.File) (string, error) {
	top, err := os.Readlink(fdPath(r.dir))
	if err != nil {
		return "", err
	}
	p, err := os.Readlink(fdPath(f))
	if err != nil {
		return "", err
	}
	in, ok := strings.CutPrefix(p, strings.TrimSuffix(top, "/"))
	if !ok || in != "" && in[0] != '/' {
		return "", fmt.Errorf("%q is not in the container's root any more: %w", f.Name(), errdefs.ErrFailedPrecondition)
	}
	return path.Clean("/" + in), nil
}

func fdPath(f *os.File) string { return fmt.Sprintf("/proc/self/fd/%d", f.Fd()) }
