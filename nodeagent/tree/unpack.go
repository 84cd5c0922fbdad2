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
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// ErrArchive is what every complaint about an archive is.
var ErrArchive = errors.New("the archive is not acceptable")

func bad(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrArchive, fmt.Sprintf(format, args...))
}

const (
	maxName  = 4096 // bytes of a name, and of what a link says
	maxDepth = 512  // elements of a name
)

// unpack makes in root, which is empty, what r says, with as for the top element.
func unpack(r io.Reader, root *os.Root, as string, limits Limits) (Summary, error) {
	u := unpacker{root: root, as: as, limits: limits, made: map[string]bool{}}
	end := &ending{Reader: r}
	in := tar.NewReader(end)
	for {
		h, err := in.Next()
		if errors.Is(err, io.EOF) && end.reached {
			return u.summary, bad("it breaks off")
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return u.summary, tarFault(err)
		}
		if err := u.entry(h, in); err != nil {
			return u.summary, err
		}
	}
	if u.summary.Entries == 0 {
		return u.summary, bad("it is empty")
	}
	if err := drain(r); err != nil {
		return u.summary, err
	}
	return u.summary, u.finish()
}

// maxPadding is what may follow an archive's end.
const maxPadding = 1 << 20

// drain reads to the end, which tells whether r's sender was content to the last.
func drain(r io.Reader) error {
	n, err := io.Copy(io.Discard, io.LimitReader(r, maxPadding+1))
	if err == nil && n > maxPadding {
		return bad("more than %d bytes follow its end", maxPadding)
	}
	return err
}

// ending notices the end of a stream. To package tar that is as good as an archive's own
// end, but an archive that was cut between two entries ends like this, too.
type ending struct {
	io.Reader
	reached bool
}

// Read is that of io.Reader.
func (e *ending) Read(p []byte) (int, error) {
	n, err := e.Reader.Read(p)
	e.reached = e.reached || n == 0 && errors.Is(err, io.EOF)
	return n, err
}

func tarFault(err error) error {
	if errors.Is(err, tar.ErrHeader) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, tar.ErrFieldTooLong) {
		return bad("%v", err)
	}
	return err
}

type unpacker struct {
	root    *os.Root
	as      string
	limits  Limits
	summary Summary
	names   int64
	made    map[string]bool // folders, by path
	folders []later
	links   []later
}

// later is what is done when everything else is there.
type later struct {
	path   string
	target string // of a link
	mode   fs.FileMode
	at     time.Time
}

func (u *unpacker) entry(h *tar.Header, in io.Reader) error {
	if h.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	if u.summary.Entries++; u.summary.Entries > u.limits.Entries {
		return bad("it has more than %d entries", u.limits.Entries)
	}
	name, err := u.place(h.Name)
	if err != nil {
		return err
	}
	if err := u.folder(path.Dir(name), later{mode: 0o755}); err != nil {
		return err
	}
	l := later{path: name, target: h.Linkname, mode: fs.FileMode(h.Mode) & fs.ModePerm, at: h.ModTime}
	if h.Mode&unix.S_ISVTX != 0 {
		l.mode |= fs.ModeSticky
	}
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeGNUSparse:
		return u.file(l, h.Size, in)
	case tar.TypeDir:
		return u.folder(name, l)
	case tar.TypeSymlink:
		if l.target == "" || len(l.target) > maxName {
			return bad("the link %.100q says nothing, or too much", h.Name)
		}
		return u.keep(&u.links, l)
	case tar.TypeLink:
		target, err := u.place(h.Linkname)
		if err != nil {
			return err
		}
		return once(h.Name, u.root.Link(target, name))
	default:
		return bad("%.100q is neither a file nor a folder nor a link", h.Name)
	}
}

// once names an entry that is there already, as a file or under a file's name.
func once(name string, err error) error {
	if errors.Is(err, fs.ErrExist) {
		return bad("%.100q comes twice", name)
	}
	return err
}

// place says where an entry goes.
func (u *unpacker) place(name string) (string, error) {
	if name == "" || len(name) > maxName || strings.HasPrefix(name, "/") || strings.Count(name, "/") > maxDepth {
		return "", bad("the name %.100q is empty, absolute or too long", name)
	}
	if slices.Contains(strings.Split(name, "/"), "..") {
		return "", bad("the name %.100q leads out of it", name)
	}
	clean := path.Clean(name)
	if u.summary.Top == "" {
		u.summary.Top, _, _ = strings.Cut(clean, "/")
	}
	if u.summary.Top == "." {
		return path.Join(u.as, clean), nil
	}
	top, rest, _ := strings.Cut(clean, "/")
	if top != u.summary.Top {
		return "", bad("it has several top elements, %.100q and %.100q", u.summary.Top, top)
	}
	return path.Join(u.as, rest), nil
}

func (u *unpacker) keep(list *[]later, l later) error {
	if u.names += int64(len(l.path)+len(l.target)) + 128; u.names > u.limits.Names {
		return bad("its names take too much memory")
	}
	*list = append(*list, l)
	return nil
}

// folder makes one, and those above it. Until the end it is its owner's alone; what is
// said of one that is there already counts.
func (u *unpacker) folder(name string, l later) error {
	if name == "." {
		return nil
	}
	l.path = name
	if u.made[name] {
		if l.at.IsZero() {
			return nil // it is only passed through
		}
		return u.keep(&u.folders, l)
	}
	if err := u.folder(path.Dir(name), later{mode: 0o755}); err != nil {
		return err
	}
	if err := u.root.Mkdir(name, 0o700); err != nil {
		return once(name, err)
	}
	u.made[name] = true
	return u.keep(&u.folders, l)
}

func (u *unpacker) file(l later, size int64, in io.Reader) (err error) {
	if size < 0 || size > u.limits.Bytes-u.summary.Bytes { // a sum might overflow
		return bad("its files have more than %d bytes", u.limits.Bytes)
	}
	u.summary.Bytes += size
	f, err := u.root.OpenFile(l.path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return once(l.path, err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err := io.CopyN(f, in, size); err != nil {
		return tarFault(err)
	}
	if err := f.Chmod(l.mode); err != nil {
		return err
	}
	return u.root.Chtimes(l.path, time.Time{}, l.at)
}

// finish makes the links, and then gives folders what was said of them, the inner ones
// first: one may not be writable.
func (u *unpacker) finish() error {
	for _, l := range u.links {
		if err := u.root.Symlink(l.target, l.path); err != nil {
			return once(l.path, err)
		}
	}
	slices.SortStableFunc(u.folders, func(a, b later) int { return len(a.path) - len(b.path) })
	done := map[string]bool{}
	for _, l := range slices.Backward(u.folders) {
		if done[l.path] {
			continue // the last word counts
		}
		done[l.path] = true
		if err := u.settle(l); err != nil {
			return err
		}
	}
	return nil
}

func (u *unpacker) settle(l later) error {
	dir, err := u.root.OpenFile(l.path, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer dir.Close()
	if !l.at.IsZero() {
		if err := u.root.Chtimes(l.path, time.Time{}, l.at); err != nil {
			return err
		}
	}
	return dir.Chmod(l.mode)
}
