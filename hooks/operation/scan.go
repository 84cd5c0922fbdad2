package operation

import (
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"brig/hooks/operation/ldso"
)

// Bounds on the libraries of a root. Large images have some five thousand.
const (
	maxLibraries = 1 << 14
	maxCache     = 16 << 20 // bytes of their paths
	maxPasses    = 4
)

// scan finds the libraries of a root, by ldconfig's rules.
type scan struct {
	root   *Root
	points map[string]string // what will be mounted: by the path in the root, the host's

	pass
}

// pass over all folders.
type pass struct {
	seen      map[string]bool // folders, by their path on the host
	names     int             // listed
	libraries int             // opened
	kinds     int             // of processors
	bytes     int             // of names for the cache
	links     int             // made
	entries   []ldso.Entry
}

// library is one name for the cache, in one folder.
type library struct {
	soname string
	file   string
	link   bool
	flags  ldso.Flags
}

// all looks into the folders that were asked for, if no configuration names them, into
// those that the configuration names, and into the system's. Links that it makes may give
// sense to others: it looks until it makes none, so that a second time finds the same.
func (s *scan) all(asked []string) error {
	configured, err := s.root.configured()
	if err != nil {
		return err
	}
	system := s.root.systemFolders()
	asked = slices.DeleteFunc(slices.Clone(asked), func(f string) bool {
		return slices.Contains(configured, f) || slices.Contains(system, f)
	})
	for range maxPasses {
		s.pass = pass{seen: map[string]bool{}}
		folders := slices.Concat(asked, configured, system)
		for _, f := range folders {
			if err := s.folder(f, ""); err != nil {
				return fmt.Errorf("in %q: %w", f, err)
			}
		}
		for _, f := range folders {
			if err := s.hwcaps(path.Join(f, "glibc-hwcaps")); err != nil {
				return fmt.Errorf("in %q: %w", f, err)
			}
		}
		if s.links == 0 {
			break
		}
	}
	return nil
}

// hwcaps looks into the folders of one for kinds of processors.
func (s *scan) hwcaps(name string) error {
	d, err := s.open(name)
	if absent(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer d.Close()
	kinds, err := list(d.dir, maxNames-s.names)
	if err != nil {
		return err
	}
	s.names += len(kinds)
	if s.kinds += len(kinds); s.kinds > maxFolders {
		return fmt.Errorf("more than %d kinds of processors: %w", maxFolders, errdefs.ErrResourceExhausted)
	}
	slices.Sort(kinds)
	for _, kind := range kinds {
		if ldso.FileName(kind) {
			if err := s.folder(path.Join(name, kind), kind); err != nil {
				return err
			}
		}
	}
	return nil
}

// folder adds the libraries of one to the cache, for a kind of processors or for any.
func (s *scan) folder(name, kind string) error {
	d, err := s.open(name)
	if absent(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer d.Close()
	id, err := os.Readlink(fdPath(d.dir))
	if err != nil || s.seen[id] {
		return err
	}
	s.seen[id] = true
	names, err := list(d.dir, maxNames-s.names)
	if err != nil {
		return err
	}
	s.names += len(names)
	slices.Sort(names) // a folder's own order is the file system's secret
	libraries, err := s.distinct(d, names)
	if err != nil {
		return err
	}
	for _, l := range libraries {
		if err := s.add(d, l, kind); err != nil {
			return err
		}
	}
	return nil
}

// distinct returns one for each name that programs ask for.
func (s *scan) distinct(d *folder, names []string) ([]library, error) {
	var found []library
	at := map[string]int{}
	for _, name := range names {
		if !isLibrary(name) {
			continue
		}
		if s.libraries++; s.libraries > maxLibraries {
			return nil, fmt.Errorf("more than %d libraries: %w", maxLibraries, errdefs.ErrResourceExhausted)
		}
		l, ok, err := s.inspect(d, name)
		if err != nil {
			return nil, err
		}
		i, seen := at[l.soname]
		switch {
		case !ok:
		case !seen:
			at[l.soname] = len(found)
			found = append(found, l)
		case l.newer(found[i]):
			found[i] = l
		}
	}
	return found, nil
}

// newer prefers a file to a link, and then the higher version.
func (l library) newer(other library) bool {
	if l.link != other.link {
		return other.link
	}
	return ldso.Compare(other.file, l.file) < 0
}

// inspect looks at one name of a folder. What is no library is left out.
func (s *scan) inspect(d *folder, name string) (l library, ok bool, err error) {
	link, f, err := d.lookup(name)
	if absent(err) || errors.Is(err, unix.EXDEV) { // or it leads out of a folder of the host
		return l, false, nil
	}
	if err != nil {
		return l, false, err
	}
	defer f.Close()
	content, err := s.content(f)
	if errors.Is(err, unix.EISDIR) || errors.Is(err, errdefs.ErrFailedPrecondition) {
		return l, false, nil // no file
	}
	if err != nil {
		return l, false, err
	}
	defer content.Close()
	info, err := ldso.Inspect(content)
	if errors.Is(err, ldso.ErrNoLibrary) {
		return l, false, nil
	}
	if err != nil {
		return l, false, fmt.Errorf("read %q: %w", name, err)
	}
	soname := info.Soname
	if soname == "" {
		soname = name
	}
	// A link that is called neither by the soname nor, for compilers, by its beginning
	// counts as a file.
	forCompilers := strings.HasSuffix(name, ".so") && strings.HasPrefix(soname, name)
	link = link && (name == soname || forCompilers)
	if link {
		soname = name
	}
	return library{soname, name, link, info.Flags}, true, nil
}

// content opens what the container will see in the place of f.
func (s *scan) content(f *os.File) (*os.File, error) {
	source, mounted := "", false
	if len(s.points) > 0 {
		if real, err := s.root.real(f); err == nil {
			source, mounted = s.points[real]
		}
	}
	if !mounted {
		return reopen(f)
	}
	p, err := os.OpenFile(source, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer p.Close()
	return reopen(p)
}

// add puts a library into the cache by the name of a link that follows its updates, or by
// its file's where no such link can be. ldconfig makes none for kinds of processors.
func (s *scan) add(d *folder, l library, kind string) error {
	file := l.soname
	switch {
	case kind != "":
		file = l.file
	case !l.link && l.file != l.soname:
		there, made, err := d.sonameLink(l)
		if err != nil {
			return err
		}
		if made {
			s.links++
		}
		if !there {
			file = l.file
		}
	}
	p := strings.TrimSuffix(d.path, "/") + "/" + file
	if s.bytes += len(p) + len(l.soname); s.bytes > maxCache {
		return fmt.Errorf("the names of libraries take more than %d bytes: %w", maxCache, errdefs.ErrResourceExhausted)
	}
	s.entries = append(s.entries, ldso.Entry{Name: l.soname, Path: p, Flags: l.flags, Hwcaps: kind})
	return nil
}

// isLibrary tells by its name alone which file ldconfig would open.
func isLibrary(name string) bool {
	return (strings.HasPrefix(name, "lib") || strings.HasPrefix(name, "ld-")) && strings.Contains(name, ".so") &&
		!strings.Contains(name, ".#prelink#") && ldso.FileName(name)
}
