package tree

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"

	"golang.org/x/sys/unix"
)

// kernels are filesystems that are not files but the kernel's, and may have no end.
var kernels = []int64{unix.PROC_SUPER_MAGIC, unix.SYSFS_MAGIC, unix.CGROUP_SUPER_MAGIC, unix.CGROUP2_SUPER_MAGIC, unix.DEVPTS_SUPER_MAGIC}

// Pack writes an archive of name, a path inside root, to w. Its top element is called
// top. Files may change meanwhile: one that is gone when its turn comes is left out, one
// that has become shorter is an error.
func Pack(w io.Writer, root *os.Root, name, top string) (Summary, error) {
	p := packer{out: tar.NewWriter(w), root: root, summary: Summary{Top: top}}
	info, err := root.Lstat(name)
	if err != nil {
		return p.summary, err
	}
	if err := p.add(name, top, info); err != nil {
		return p.summary, err
	}
	return p.summary, p.out.Close()
}

type packer struct {
	out     *tar.Writer
	root    *os.Root
	summary Summary
}

// add packs what is at from, and what is below it, as to.
func (p *packer) add(from, to string, info fs.FileInfo) error {
	switch info.Mode().Type() {
	case 0:
		return p.file(from, to)
	case fs.ModeDir:
		return p.folder(from, to)
	case fs.ModeSymlink:
		target, err := p.root.Readlink(from)
		if err != nil {
			return vanished(err)
		}
		return p.header(&tar.Header{Typeflag: tar.TypeSymlink, Name: to, Linkname: target}, info)
	default:
		p.summary.Skipped++
		return nil
	}
}

func (p *packer) header(h *tar.Header, info fs.FileInfo) error {
	h.Format, h.Mode, h.ModTime = tar.FormatPAX, int64(info.Mode().Perm()), info.ModTime()
	if info.Mode()&fs.ModeSticky != 0 {
		h.Mode |= unix.S_ISVTX
	}
	p.summary.Entries++
	return p.out.WriteHeader(h)
}

func (p *packer) file(from, to string) error {
	// It may have become something else since it was looked at, whose open would wait.
	f, err := p.root.OpenFile(from, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return vanished(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		p.summary.Skipped++
		return nil
	}
	if err := p.header(&tar.Header{Typeflag: tar.TypeReg, Name: to, Size: info.Size()}, info); err != nil {
		return err
	}
	n, err := io.CopyN(p.out, f, info.Size())
	p.summary.Bytes += n
	if errors.Is(err, io.EOF) {
		return fmt.Errorf("%s became shorter while it was read: try again", to)
	}
	return err
}

// folder keeps the names of one folder at each depth in memory, no more.
func (p *packer) folder(from, to string) error {
	dir, err := p.root.OpenFile(from, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return vanished(err)
	}
	defer dir.Close()
	info, err := dir.Stat()
	if err != nil {
		return err
	}
	if err := p.header(&tar.Header{Typeflag: tar.TypeDir, Name: to + "/"}, info); err != nil {
		return err
	}
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(dir.Fd()), &st); err == nil && slices.Contains(kernels, int64(st.Type)) {
		return nil
	}
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return err
	}
	slices.Sort(names)
	for _, name := range names {
		inner := path.Join(from, name)
		info, err := p.root.Lstat(inner)
		if err == nil {
			err = p.add(inner, path.Join(to, name), info)
		}
		if err := vanished(err); err != nil {
			return err
		}
	}
	return nil
}

// vanished forgives that something is gone which was there when it was listed.
func vanished(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
