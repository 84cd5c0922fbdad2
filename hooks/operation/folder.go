package operation

import (
	"errors"
	"fmt"
	"os"
	"path"

	"golang.org/x/sys/unix"
)

// folder of libraries: one of the root, or one of the host that will be mounted there.
type folder struct {
	path string   // as the configuration calls it
	dir  *os.File // O_PATH
	root *Root
	real string // its path in the root; empty for one of the host
}

func (s *scan) open(name string) (*folder, error) {
	d := &folder{path: name, root: s.root}
	dir, err := s.root.lookup(name, unix.O_DIRECTORY, 0)
	real := path.Clean(name)
	if err == nil {
		if real, err = s.root.real(dir); err != nil {
			return nil, errors.Join(err, dir.Close())
		}
	}
	source, mounted := s.points[real]
	switch {
	case !mounted && err != nil:
		return nil, err
	case !mounted:
		d.dir, d.real = dir, real
		return d, nil
	case err == nil:
		if err := dir.Close(); err != nil {
			return nil, err
		}
	}
	d.dir, err = os.OpenFile(source, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	return d, err
}

func (d *folder) Close() error { return d.dir.Close() }

// lookup finds what a name stands for, and whether it is a link. In a folder of the host
// links may lead to its other files only: elsewhere the container sees something else.
func (d *folder) lookup(name string) (link bool, f *os.File, err error) {
	var st unix.Stat_t
	if err := unix.Fstatat(int(d.dir.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return false, nil, err
	}
	link = st.Mode&unix.S_IFMT == unix.S_IFLNK
	if d.real != "" {
		f, err = d.root.lookup(path.Join(d.real, name), 0, 0)
		return link, f, err
	}
	fd, err := unix.Openat2(int(d.dir.Fd()), name, &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_MAGICLINKS})
	if err != nil {
		return link, nil, err
	}
	return link, os.NewFile(uintptr(fd), name), nil
}

// sonameLink makes the link by which programs find a library, if there is none. It tells
// whether something of that name is there, and whether it is new. What is no link stays, as
// with ldconfig, and so does everything in a mount.
func (d *folder) sonameLink(l library) (there, made bool, err error) {
	var st unix.Stat_t
	err = unix.Fstatat(int(d.dir.Fd()), l.soname, &st, unix.AT_SYMLINK_NOFOLLOW)
	there = err == nil
	if there && (st.Mode&unix.S_IFMT != unix.S_IFLNK || d.same(l.soname, l.file)) || d.real == "" {
		return there, false, nil
	}
	dir, err := d.root.mkdirAll(d.real)
	if errors.Is(err, unix.EXDEV) {
		return there, false, nil
	}
	if err != nil {
		return there, false, err
	}
	defer dir.Close()
	if err := replaceLink(dir, l.soname, l.file); err != nil {
		return there, false, fmt.Errorf("link %q: %w", l.soname, err)
	}
	return true, true, nil
}

// same tells whether two names lead to one file.
func (d *folder) same(a, b string) bool {
	var paths [2]string
	for i, name := range [2]string{a, b} {
		_, f, err := d.lookup(name)
		if err != nil {
			return false
		}
		paths[i], err = os.Readlink(fdPath(f))
		if err = errors.Join(err, f.Close()); err != nil {
			return false
		}
	}
	return paths[0] == paths[1]
}
