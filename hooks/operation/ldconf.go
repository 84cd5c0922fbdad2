package operation

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"brig/hooks/operation/ldso"
)

// Bounds on the linker's configuration. Images have a handful of short files.
const (
	maxConfFile  = 64 << 10 // bytes
	maxConfFiles = 256
	maxConfDepth = 8
	maxMatches   = 256
	maxFolders   = 512
	maxFolder    = 1024    // bytes of a folder's path; longer ones are left out
	maxNames     = 1 << 17 // in all folders that are listed
	maxListed    = 1024    // folders that patterns lead to
)

// conf collects what the files name.
type conf struct {
	root    *Root
	read    map[string]bool
	listed  int // folders
	names   int // in them
	folders []string
}

// configured returns the folders that ld.so.conf and what it includes name, in order.
func (r *Root) configured() ([]string, error) {
	c := conf{root: r, read: map[string]bool{}}
	err := c.file(confFile, 0)
	return c.folders, err
}

func (c *conf) file(name string, depth int) error {
	if c.read[name] {
		return nil
	}
	c.read[name] = true
	if len(c.read) > maxConfFiles || depth > maxConfDepth {
		return fmt.Errorf("%q includes more than %d files, or deeper than %d: %w", confFile, maxConfFiles, maxConfDepth, errdefs.ErrResourceExhausted)
	}
	data, err := c.root.read(name, maxConfFile)
	if absent(err) || errors.Is(err, unix.EISDIR) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, l := range ldso.ParseConf(data) {
		if err := c.line(name, l, depth); err != nil {
			return err
		}
	}
	return nil
}

func (c *conf) line(file string, l ldso.Line, depth int) error {
	switch {
	case l.Include:
		pattern := l.Path
		if !path.IsAbs(pattern) {
			pattern = path.Join(path.Dir(file), pattern)
		}
		matches, err := c.glob(pattern)
		if err != nil {
			return err
		}
		for _, m := range matches {
			if err := c.file(m, depth+1); err != nil {
				return err
			}
		}
	case len(l.Path) > maxFolder || slices.Contains(c.folders, l.Path):
	case len(c.folders) == maxFolders:
		return fmt.Errorf("%q names more than %d folders: %w", file, maxFolders, errdefs.ErrResourceExhausted)
	default:
		c.folders = append(c.folders, l.Path)
	}
	return nil
}

// glob returns the files of the root that match, sorted. Names with a dot in front want a
// pattern that has one.
func (c *conf) glob(pattern string) ([]string, error) {
	matches := []string{"/"}
	for element := range strings.SplitSeq(strings.Trim(path.Clean(pattern), "/"), "/") {
		var next []string
		for _, dir := range matches {
			if !strings.ContainsAny(element, `*?[\`) {
				next = append(next, path.Join(dir, element))
				continue
			}
			names, err := c.list(dir)
			if err != nil {
				return nil, err
			}
			for _, name := range names {
				if ok, err := path.Match(element, name); err == nil && ok && (name[0] != '.' || element[0] == '.') {
					next = append(next, path.Join(dir, name))
				}
			}
		}
		if matches = next; len(matches) > maxMatches {
			return nil, fmt.Errorf("more than %d files match %.128q: %w", maxMatches, pattern, errdefs.ErrResourceExhausted)
		}
	}
	return matches, nil
}

func (c *conf) list(dir string) ([]string, error) {
	if c.listed++; c.listed > maxListed {
		return nil, fmt.Errorf("more than %d folders to look into for files that match: %w", maxListed, errdefs.ErrResourceExhausted)
	}
	d, err := c.root.lookup(dir, unix.O_DIRECTORY, 0)
	if absent(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer d.Close()
	names, err := list(d, maxNames-c.names)
	c.names += len(names)
	slices.Sort(names)
	return names, err
}

// absent tells whether a way in the root leads to nothing, however it does.
func absent(err error) bool {
	for _, e := range []error{unix.ENOENT, unix.ENOTDIR, unix.ELOOP, unix.ENAMETOOLONG} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
