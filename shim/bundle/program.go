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
		file := path.Join("/", name)
		if !path.IsAbs(name) {
			file = path.Join("/", spec.Process.Cwd, name)
		}
		if hidden(spec, file) {
			return nil
		}
		if err := executable(root, file); err != nil && !errors.Is(err, errUnsure) {
			return fmt.Errorf("exec: %q: stat %s: %w: %w", name, file, err, errdefs.ErrInvalidArgument)
		}
		return nil
	}
	for _, dir := range filepath.SplitList(searchPath(spec.Process.Env)) {
		file := path.Join("/", spec.Process.Cwd, dir, name)
		if path.IsAbs(dir) {
			file = path.Join(dir, name)
		}
		err := executable(root, file)
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

func executable(root *os.File, file string) error {
	how := &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
	fd, err := unix.Openat2(int(root.Fd()), file, how)
	switch {
	case errors.Is(err, unix.ENOENT):
		how.Flags |= unix.O_NOFOLLOW
		if link, err := unix.Openat2(int(root.Fd()), file, how); err == nil {
			return errors.Join(errUnsure, unix.Close(link)) // it may lead into a mount
		}
		return unix.ENOENT
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
