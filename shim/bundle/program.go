package bundle

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// CheckProgram tells early, and in words that containerd's clients look for, what a
// start could only tell late: that the root filesystem, which is mounted by now, has
// no such program. It refuses nothing that it cannot be sure of. The image is the
// tenant's: no link in it leads out of the root.
func CheckProgram(spec *specs.Spec) error {
	root, err := os.Open(spec.Root.Path)
	if err != nil {
		return fmt.Errorf("root filesystem: %w", err)
	}
	defer root.Close()
	name := spec.Process.Args[0]
	if strings.Contains(name, "/") {
		file := name
		if !path.IsAbs(name) {
			file = path.Join("/", spec.Process.Cwd, name) // as runsc does
		}
		if file != path.Clean(file) || hidden(spec, file) {
			return nil
		}
		if err := executable(spec, root, file); err != nil && !errors.Is(err, errUnsure) {
			return fmt.Errorf("exec: %q: stat %s: %w: %w", name, file, err, errdefs.ErrInvalidArgument)
		}
		return nil
	}
	for _, dir := range filepath.SplitList(searchPath(spec.Process.Env)) {
		file := path.Join("/", spec.Process.Cwd, dir, name)
		if path.IsAbs(dir) {
			file = path.Join(dir, name)
		}
		err := executable(spec, root, file)
		if err == nil || errors.Is(err, errUnsure) || hidden(spec, file) {
			return nil
		}
	}
	return fmt.Errorf("exec: %q: executable file not found in $PATH: %w", name, errdefs.ErrInvalidArgument)
}

// searchPath is runsc's where the environment has none.
func searchPath(env []string) string {
	for _, e := range env {
		if value, ok := strings.CutPrefix(e, "PATH="); ok {
			return value
		}
	}
	return "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
}

// hidden tells that a mount may have the file.
func hidden(spec *specs.Spec, file string) bool {
	for _, m := range spec.Mounts {
		at := path.Clean(m.Destination)
		if file == at || strings.HasPrefix(file, strings.TrimSuffix(at, "/")+"/") {
			return true
		}
	}
	return false
}

var errUnsure = errors.New("cannot tell")

func executable(spec *specs.Spec, root *os.File, file string) error {
	fd, err := openIn(root, file, 0)
	switch {
	case errors.Is(err, unix.ENOENT):
		return missing(spec, root, file)
	case err != nil:
		return errUnsure
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return errUnsure
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || st.Mode&0o111 == 0 {
		return unix.EACCES
	}
	return nil
}

// missing tells whether a file that is not in the root could be in a mount all the same: a
// link on the way may lead there.
func missing(spec *specs.Spec, root *os.File, file string) error {
	if link, err := openIn(root, file, unix.O_NOFOLLOW); err == nil {
		return errors.Join(errUnsure, unix.Close(link)) // it leads nowhere, yet
	}
	fd, err := openIn(root, path.Dir(file), 0)
	switch {
	case errors.Is(err, unix.ENOENT):
		return missing(spec, root, path.Dir(file))
	case err != nil:
		return errUnsure
	}
	dir := os.NewFile(uintptr(fd), file)
	defer dir.Close()
	top, errTop := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", root.Fd()))
	real, errReal := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", dir.Fd()))
	if errTop != nil || errReal != nil || hidden(spec, path.Join("/", strings.TrimPrefix(real, top), path.Base(file))) {
		return errUnsure
	}
	return unix.ENOENT
}

func openIn(root *os.File, file string, flags uint64) (fd int, err error) {
	return unix.Openat2(int(root.Fd()), file, &unix.OpenHow{
		Flags: unix.O_PATH | unix.O_CLOEXEC | flags, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	})
}
