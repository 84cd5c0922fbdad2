package upper

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
)

// The bounds of what a sentry may tell: a large tree of packages has about a hundred
// thousand files.
const (
	maxEntries    = 1 << 18
	maxName       = 4095
	maxAttributes = 64 << 20 // names and extended attributes of all entries
	// MaxTree that a Source may have.
	MaxTree = 512 << 20
)

// What the OCI's specification calls what is not there any more.
const (
	whiteoutPrefix = ".wh."
	opaqueName     = whiteoutPrefix + whiteoutPrefix + ".opq"
)

// entry of the layer.
type entry struct {
	name   string // below the root, without a slash at either end
	header tar.Header
	opaque bool  // nothing of the image's shines through
	gone   bool  // a whiteout
	offset int64 // of a regular file's extents in the tree
	length int64 // theirs
}

// index collects the entries.
type index struct {
	byName     map[string]*entry
	links      []*entry // hard links; header.Linkname is the sentry's
	attributes int
	tree       int64 // its size
	bytes      int64 // of all files
	maxBytes   int64
}

// read returns the entries in the order of the layer.
func read(s Source, maxBytes int64) ([]*entry, error) {
	size, err := checkEnd(s.Tree)
	if err != nil {
		return nil, err
	}
	x := &index{byName: map[string]*entry{}, tree: size, maxBytes: maxBytes}
	in := tar.NewReader(s.Tree)
	for {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, bad("read the tree of files: %w", err)
		}
		if err := x.add(h, in, s.Tree); err != nil {
			return nil, err
		}
	}
	if err := errors.Join(x.resolveLinks(), x.checkFolders()); err != nil {
		return nil, err
	}
	names := slices.Sorted(maps.Keys(x.byName)) // a folder comes before what is in it
	list := make([]*entry, len(names))
	for i, name := range names {
		list[i] = x.byName[name]
		list[i].rename()
	}
	return list, nil
}

// trailer of a tar archive. Go's reader takes an archive without one for whole.
const trailer = 1024

// checkEnd refuses a tree that was cut short, and goes to its beginning.
func checkEnd(tree io.ReadSeeker) (size int64, err error) {
	last := make([]byte, trailer)
	if size, err = tree.Seek(-trailer, io.SeekEnd); err != nil {
		return 0, bad("the tree of files is cut short")
	}
	if _, err := io.ReadFull(tree, last); err != nil {
		return 0, fmt.Errorf("read the tree of files: %w", errRead(err))
	}
	if len(bytes.Trim(last, "\x00")) > 0 {
		return 0, bad("the tree of files is cut short")
	}
	_, err = tree.Seek(0, io.SeekStart)
	return size + trailer, err
}

func (x *index) add(h *tar.Header, content io.Reader, tree io.Seeker) error {
	name, err := cleanName(h.Name)
	if err != nil || name == "" { // the root, which an image has no attributes for
		return err
	}
	if x.byName[name] != nil || len(x.byName) == maxEntries {
		return bad("%q is there twice, or one of more than %d files", name, maxEntries)
	}
	e := &entry{name: name, header: tar.Header{
		Typeflag: h.Typeflag, Name: name, Mode: h.Mode & 0o7777, Uid: h.Uid, Gid: h.Gid,
		ModTime: clamp(h.ModTime), Format: tar.FormatPAX,
	}}
	if h.Uid < 0 || h.Uid > math.MaxUint32-1 || h.Gid < 0 || h.Gid > math.MaxUint32-1 {
		return bad("%q: owner %d:%d", name, h.Uid, h.Gid)
	}
	x.byName[name] = e
	if x.attributes += len(name) + len(h.Linkname); x.attributes > maxAttributes {
		return bad("more than %d bytes of names", maxAttributes)
	}
	if err := x.kind(e, h, content, tree); err != nil {
		return err
	}
	return x.xattrs(e, h)
}

// kind takes over what is particular to a type of file.
func (x *index) kind(e *entry, h *tar.Header, content io.Reader, tree io.Seeker) error {
	switch h.Typeflag {
	case tar.TypeDir, tar.TypeFifo:
		return nil
	case tar.TypeReg:
		return x.regular(e, h, content, tree)
	case tar.TypeSymlink:
		if h.Linkname == "" || len(h.Linkname) > maxName || strings.ContainsRune(h.Linkname, 0) {
			return bad("%q: link to %.64q", e.name, h.Linkname)
		}
		e.header.Linkname = h.Linkname
		return nil
	case tar.TypeLink:
		target, err := cleanName(h.Linkname)
		if err != nil || target == "" {
			return bad("%q: hard link to %.64q", e.name, h.Linkname)
		}
		e.header.Linkname = target
		x.links = append(x.links, e)
		return nil
	case tar.TypeChar, tar.TypeBlock:
		if h.Devmajor < 0 || h.Devmajor >= 1<<12 || h.Devminor < 0 || h.Devminor >= 1<<20 {
			return bad("%q: device %d:%d", e.name, h.Devmajor, h.Devminor)
		}
		e.header.Devmajor, e.header.Devminor = h.Devmajor, h.Devminor
		e.gone = h.Typeflag == tar.TypeChar && h.Devmajor == 0 && h.Devminor == 0
		return nil
	}
	return bad("%q: type %q", e.name, h.Typeflag)
}

// resolveLinks makes the first name of each file the one that has the content: the
// others come after it in the layer.
func (x *index) resolveLinks() error {
	groups := map[*entry][]*entry{}
	for _, link := range x.links {
		of := x.byName[link.header.Linkname]
		if of == nil || of.header.Typeflag == tar.TypeLink || of.header.Typeflag == tar.TypeDir {
			return bad("%q: hard link to %q, which is no file", link.name, link.header.Linkname)
		}
		groups[of] = append(groups[of], link)
	}
	for of, links := range groups {
		if of.gone { // gVisor has one inode for all whiteouts
			for _, link := range links {
				link.gone = true
			}
			continue
		}
		all := append(links, of)
		first := slices.MinFunc(all, func(a, b *entry) int { return strings.Compare(a.name, b.name) })
		if first != of { // they are one inode: all but the name is the same
			first.header, of.header = of.header, first.header
			first.header.Name, of.header.Name = first.name, of.name
			first.offset, first.length = of.offset, of.length
		}
		for _, e := range all {
			if e != first {
				e.header.Linkname = first.name
			}
		}
	}
	return nil
}

// checkFolders: what is in something is in a folder. gVisor tells those that the image
// has, too.
func (x *index) checkFolders() error {
	for name, e := range x.byName {
		if dir := path.Dir(name); dir != "." {
			if in := x.byName[dir]; in == nil || in.header.Typeflag != tar.TypeDir {
				return bad("%q is in no folder", name)
			}
		}
		if base := path.Base(name); strings.HasPrefix(base, whiteoutPrefix) {
			return errdefs.ErrFailedPrecondition.WithMessage("the sandbox has a file \"/" + name + "\", and an image cannot: names that begin with .wh. mean there that a file is gone")
		}
		if e.opaque && e.header.Typeflag != tar.TypeDir {
			return bad("%q is opaque and no folder", name)
		}
	}
	return nil
}

// rename gives the entry its name in the layer.
func (e *entry) rename() {
	switch {
	case e.gone:
		dir, base := path.Split(e.name)
		e.header = tar.Header{Typeflag: tar.TypeReg, Name: dir + whiteoutPrefix + base, ModTime: time.Unix(0, 0), Format: tar.FormatPAX}
	case e.header.Typeflag == tar.TypeDir:
		e.header.Name = e.name + "/"
	}
}

// cleanName returns a name below the root; "" is the root itself.
func cleanName(name string) (string, error) {
	rest, ok := strings.CutPrefix(name, "./")
	if !ok {
		return "", bad("name %.64q does not begin with ./", name)
	}
	rest = strings.TrimSuffix(rest, "/")
	if rest == "" {
		return "", nil
	}
	if len(rest) > maxName {
		return "", bad("name %.64q… has %d bytes", name, len(rest))
	}
	for part := range strings.SplitSeq(rest, "/") {
		if part == "" || part == "." || part == ".." || len(part) > 255 || strings.ContainsRune(part, 0) {
			return "", bad("name %.64q", name)
		}
	}
	return rest, nil
}

// clamp keeps a time to what every filesystem has.
func clamp(t time.Time) time.Time {
	return time.Unix(min(max(t.Unix(), 0), math.MaxInt32), 0)
}
