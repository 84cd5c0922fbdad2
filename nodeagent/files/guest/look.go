package guest

import (
	"cmp"
	"errors"
	"io"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"

	"brig/nodeagent/files/wire"
	"brig/nodeagent/tree"
)

// split separates the last element of a path, as the kernel would.
func split(p string) (dir, name string) {
	dir, name = path.Split(strings.TrimRight(p, "/"))
	if dir == "" {
		dir = "."
	}
	return dir, name
}

// nameOf is what an answer calls what is at p.
func nameOf(p string) string {
	if _, name := split(p); name != "" && name != "." && name != ".." {
		return name
	}
	if wd, err := os.Getwd(); err == nil && !path.IsAbs(p) {
		p = path.Join(wd, p)
	}
	if base := path.Base(path.Clean(p)); base != "/" {
		return base
	}
	return "root"
}

func (s *server) read(r wire.Request) error {
	// A FIFO's open would wait for its other end.
	f, err := os.OpenFile(r.Path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	switch {
	case fi.IsDir():
		return refuse(r.Path, "is a directory: ask for an archive of it, or list it")
	case !fi.Mode().IsRegular():
		return refuse(r.Path, "is not a file: devices, FIFOs and sockets are not read")
	}
	if err := s.out.Value(wire.KindInfo, infoOf(nameOf(r.Path), fi)); err != nil {
		return err
	}
	var in io.Reader = f
	switch {
	case fi.Size() > 0 && r.Offset >= uint64(fi.Size()): // more than some filesystems can seek to
		in = strings.NewReader("")
	case r.Offset > 0: // the kernel's own files say that they are empty, and are not
		if _, err := f.Seek(int64(min(r.Offset, 1<<62)), io.SeekStart); err != nil {
			return err
		}
	}
	if r.Length > 0 {
		in = io.LimitReader(in, int64(min(r.Length, 1<<62)))
	}
	_, err = io.CopyBuffer(s.out, struct{ io.Reader }{in}, make([]byte, wire.MaxFrame))
	return err
}

// archive follows a link at p if a slash comes after it, as open would.
func (s *server) archive(p string) error {
	dir, name := split(p)
	top := nameOf(p)
	fi, err := os.Lstat(p)
	if err != nil {
		return err
	}
	if name == "" || name == "." || name == ".." || strings.HasSuffix(p, "/") {
		dir, name = p, "."
	}
	if !fi.IsDir() && !fi.Mode().IsRegular() && fi.Mode().Type() != os.ModeSymlink {
		return refuse(p, "is not a file: devices, FIFOs and sockets are not read")
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	info, err := describe(p, top, fi)
	if err != nil {
		return err
	}
	if err := s.out.Value(wire.KindInfo, info); err != nil {
		return err
	}
	out := &blocks{out: s.out}
	if _, err := tree.Pack(out, root, name, top); err != nil {
		return err
	}
	return out.flush()
}

// blocks gathers tar's small writes into frames.
type blocks struct {
	out *wire.Writer
	buf []byte
}

func (b *blocks) Write(p []byte) (int, error) {
	b.buf = append(b.buf, p...)
	if len(b.buf) < wire.MaxFrame/2 {
		return len(p), nil
	}
	return len(p), b.flush()
}

func (b *blocks) flush() error {
	_, err := b.out.Write(b.buf)
	b.buf = b.buf[:0]
	return err
}

func describe(p, name string, fi os.FileInfo) (wire.Info, error) {
	info := infoOf(name, fi)
	if info.Type != wire.Symlink {
		return info, nil
	}
	var err error
	info.Target, err = os.Readlink(p)
	return info, err
}

func (s *server) stat(p string) error {
	fi, err := os.Lstat(p)
	if err != nil {
		return err
	}
	info, err := describe(p, nameOf(p), fi)
	if err != nil {
		return err
	}
	return s.out.Value(wire.KindInfo, info)
}

// list tells of the first entries by name; it reads all names, but keeps few.
func (s *server) list(p string) (truncated bool, err error) {
	names, truncated, err := first(p, wire.MaxListed)
	if err != nil {
		return false, err
	}
	total := 0
	for _, name := range names {
		inner := path.Join(p, name)
		fi, err := os.Lstat(inner)
		var info wire.Info
		if err == nil {
			info, err = describe(inner, name, fi)
		}
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return false, err
		}
		if total += len(info.Name) + len(info.Target); total > wire.MaxListedBytes {
			return true, nil
		}
		if err := s.out.Value(wire.KindInfo, info); err != nil {
			return false, err
		}
	}
	return truncated, nil
}

func first(p string, most int) (names []string, truncated bool, err error) {
	dir, err := os.OpenFile(p, os.O_RDONLY|syscall.O_DIRECTORY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, false, err
	}
	defer dir.Close()
	for {
		more, err := dir.Readdirnames(1024)
		names = append(names, more...)
		slices.SortFunc(names, cmp.Compare[string])
		if len(names) > most {
			names, truncated = names[:most], true
		}
		if errors.Is(err, io.EOF) {
			return names, truncated, nil
		}
		if err != nil {
			return nil, false, err
		}
	}
}
