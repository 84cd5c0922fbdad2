package operation

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"brig/hooks/operation/ldso"
)

// Where glibc keeps what it knows of libraries.
const (
	etc       = "/etc"
	confFile  = "/etc/ld.so.conf"
	confDir   = "/etc/ld.so.conf.d"
	cacheName = "ld.so.cache"
)

// ldcache is the cache of the dynamic linker, with these folders in it.
type ldcache struct{ folders []string }

// newLDCache ignores which ldconfig to run: none is.
func newLDCache(f flags) (Operation, error) {
	var c ldcache
	for _, v := range f["folder"] {
		if err := confLine(v); err != nil {
			return nil, fmt.Errorf("flag folder: %w", err)
		}
		c.folders = append(c.folders, path.Clean(v))
	}
	return c, nil
}

// confLine tells whether a folder can stand in a configuration file.
func confLine(folder string) error {
	if !filepath.IsAbs(folder) || len(folder) > maxFolder || strings.ContainsFunc(folder, func(r rune) bool { return r <= ' ' || r == '#' }) {
		return fmt.Errorf("folder %.128q is not an absolute path of at most %d bytes without blanks: %w", folder, maxFolder, errdefs.ErrInvalidArgument)
	}
	return nil
}

// Apply gives each library in the root a link by its own name and writes /etc/ld.so.cache,
// as ldconfig would. The folders go into /etc/ld.so.conf.d, so that a later ldconfig in the
// container keeps them. A root with musl's linker is left alone: it has no cache, and
// NVIDIA's libraries do not run there.
func (c ldcache) Apply(r *Root) error {
	if err := r.opened(); err != nil {
		return err
	}
	if r.musl() {
		return nil
	}
	if err := r.configure(c.folders); err != nil {
		return fmt.Errorf("configure the dynamic linker: %w", err)
	}
	points, err := r.mountPoints()
	if err != nil {
		return fmt.Errorf("make mount points: %w", err)
	}
	s := scan{root: r, points: points}
	if err := s.all(c.folders); err != nil {
		return fmt.Errorf("look for libraries: %w", err)
	}
	return r.write(etc, cacheName, ldso.Encode(s.entries))
}

// musl tells whether its linker is there and none of glibc's.
func (r *Root) musl() bool {
	for _, glibc := range []string{"/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1"} {
		if r.has(glibc) {
			return false
		}
	}
	return r.has("/lib/ld-musl-x86_64.so.1") || r.has("/lib/ld-musl-aarch64.so.1")
}

// configure names the folders in ld.so.conf.d, unless they are known already.
func (r *Root) configure(folders []string) error {
	if f, err := r.lookup(confFile, unix.O_NOFOLLOW, 0); err == nil {
		f.Close()
	} else if !errors.Is(err, unix.ENOENT) {
		return err
	} else if err := r.write(path.Dir(confFile), path.Base(confFile), []byte("include "+confDir+"/*.conf\n")); err != nil {
		return err
	}
	known, err := r.configured()
	if err != nil {
		return err
	}
	known = append(known, r.systemFolders()...)
	var more []string
	for _, f := range folders {
		if !slices.Contains(known, f) && !slices.Contains(more, f) {
			more = append(more, f)
		}
	}
	return r.addConf("00-nvcr", more)
}

// addConf writes a file of folders in ld.so.conf.d. NVIDIA's have a random name; ours have
// one by what is in it, so that a restored container finds the same root.
func (r *Root) addConf(prefix string, folders []string) error {
	if len(folders) == 0 {
		return nil
	}
	text := []byte(strings.Join(folders, "\n") + "\n")
	return r.write(confDir, fmt.Sprintf("%s-%.12x.conf", prefix, sha256.Sum256(text)), text)
}

// systemFolders are those that the root's own ldconfig would look into unasked.
func (r *Root) systemFolders() []string {
	if r.has("/etc/debian_version") {
		return []string{"/lib/" + triplet, "/usr/lib/" + triplet, "/lib", "/usr/lib"}
	}
	return []string{"/lib64", "/usr/lib64", "/lib", "/usr/lib"}
}

func (r *Root) has(name string) bool {
	f, err := r.lookup(name, 0, 0)
	if err != nil {
		return false
	}
	return f.Close() == nil
}

// write puts a file into a folder, which is made if it is missing.
func (r *Root) write(dir, name string, content []byte) error {
	d, err := r.mkdirAll(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return replaceFile(d, name, content)
}
