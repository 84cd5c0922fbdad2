package operation

import (
	"errors"
	"fmt"
	"os"
	"path"

	"golang.org/x/sys/unix"
)

// mountPoints returns what will be mounted in the root, by the path there without links.
// What a library will be mounted on is made, as the runtime will do it, so that each link
// of the root resolves as in the container.
func (r *Root) mountPoints() (map[string]string, error) {
	points := map[string]string{}
	for _, m := range r.mounts {
		info, err := os.Stat(m.Source)
		if err != nil {
			return nil, fmt.Errorf("look at what will be mounted: %w", err)
		}
		at := path.Clean("/" + m.Destination)
		switch library := info.Mode().IsRegular() && isLibrary(path.Base(at)); {
		case info.IsDir():
			at, err = r.realOf(at)
		case library:
			at, err = r.mountPoint(at)
		default:
			continue
		}
		if err != nil {
			return nil, err
		}
		points[at] = m.Source
	}
	return points, nil
}

// realOf is the path without links of what may be missing.
func (r *Root) realOf(name string) (string, error) {
	f, err := r.lookup(name, 0, 0)
	if absent(err) {
		return name, nil
	}
	if err != nil {
		return "", err
	}
	defer f.Close()
	return r.real(f)
}

func (r *Root) mountPoint(name string) (real string, err error) {
	f, err := r.lookup(name, 0, 0)
	if errors.Is(err, unix.ENOENT) {
		f, err = r.make(name)
	}
	if err != nil {
		return "", err
	}
	defer f.Close()
	return r.real(f)
}

// make makes an empty file.
func (r *Root) make(name string) (*os.File, error) {
	dir, err := r.mkdirAll(path.Dir(name))
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	fd, err := unix.Openat(int(dir.Fd()), path.Base(name), unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return nil, &os.PathError{Op: "make a mount point at", Path: name, Err: err}
	}
	return withMode(os.NewFile(uintptr(fd), name), 0o644)
}
