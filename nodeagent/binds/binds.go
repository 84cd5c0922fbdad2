// Package binds stages the bind mounts of sandboxes: what a caller names, below a root
// that the operator lists, is mounted at a path of brigd's own, and that path is what the
// runtime is told.
//
// The caller's path is walked once, by handle, below the root's handle: a link on the way
// that leads out of the root is refused, and so is one of the kernel's magic links. What is
// mounted is the very file or folder that the walk ended at, not what its path names by
// then: whoever may change the tree meanwhile changes nothing. What is mounted below it is
// not shown.
//
// A staged mount is private, nosuid, nodev and, unless it was asked for and allowed to be
// writable, read-only: the host's kernel enforces it whatever the sandbox's kernel does.
// Everything of a sandbox lies in a folder of its id, so that Remove needs no more, may be
// called in any half-made state, and again. A Stage is safe for concurrent use on different
// ids.
package binds

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// Stage of a node.
type Stage struct {
	// Dir is where mounts are staged: Dir/<id>/<n>.
	Dir string
	// Roots that may be shown.
	Roots []string
}

// Mount shows source as the nth mount of a sandbox, and returns the path to bind. Errors:
// permission_denied outside of every root, not_found, invalid_argument for what is neither
// a file nor a folder. What it made before an error is left for Remove.
func (s Stage) Mount(id string, n int, source string, writable bool) (path string, err error) {
	at, err := s.open(source)
	if err != nil {
		return "", err
	}
	defer unix.Close(at)
	var st unix.Stat_t
	if err := unix.Fstat(at, &st); err != nil {
		return "", fmt.Errorf("look at %s: %w", source, err)
	}
	path = filepath.Join(s.Dir, id, strconv.Itoa(n))
	if err := target(path, st.Mode); err != nil {
		return "", fmt.Errorf("bind mount of %s: %w", source, err)
	}
	if err := attach(at, path, writable); err != nil {
		return "", fmt.Errorf("bind mount of %s: %w", source, err)
	}
	return path, nil
}

// open walks to source below the first root that it lies in.
func (s Stage) open(source string) (fd int, err error) {
	i := slices.IndexFunc(s.Roots, func(root string) bool { return source == root || strings.HasPrefix(source, root+"/") })
	if i < 0 {
		return -1, errdefs.ErrPermissionDenied.WithMessage(fmt.Sprintf("bind.source %s is below none of the folders that this node shows (mounts.roots): %s", source, list(s.Roots)))
	}
	root, err := unix.Open(s.Roots[i], unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, errdefs.ErrUnavailable.WithMessage(fmt.Sprintf("the folder %s of mounts.roots cannot be opened: %v", s.Roots[i], err))
	}
	defer unix.Close(root)
	below := strings.TrimPrefix(strings.TrimPrefix(source, s.Roots[i]), "/")
	if below == "" {
		below = "."
	}
	fd, err = walk(root, below)
	switch {
	case err == nil:
		return fd, nil
	case errors.Is(err, unix.EXDEV), errors.Is(err, unix.ELOOP):
		return -1, errdefs.ErrPermissionDenied.WithMessage(fmt.Sprintf("bind.source %s leads out of %s by a link", source, s.Roots[i]))
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENOTDIR):
		return -1, errdefs.ErrNotFound.WithMessage(fmt.Sprintf("bind.source %s is not there", source))
	}
	return -1, fmt.Errorf("open bind.source %s: %w", source, err)
}

func list(roots []string) string {
	if len(roots) == 0 {
		return "there are none"
	}
	return strings.Join(roots, ", ")
}

// walkTries is how often a walk begins anew because something was renamed meanwhile.
const walkTries = 32

// walk does not leave root by "..", a link or a magic link.
func walk(root int, below string) (fd int, err error) {
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_MAGICLINKS}
	for range walkTries {
		if fd, err = unix.Openat2(root, below, &how); !errors.Is(err, unix.EAGAIN) {
			return fd, err
		}
	}
	return fd, errdefs.ErrUnavailable.WithMessage("what lies there is being moved about: try again")
}

// target makes what the mount covers.
func target(path string, mode uint32) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	switch mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return os.Mkdir(path, 0o700)
	case unix.S_IFREG:
		f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return err
		}
		return f.Close()
	}
	return errdefs.ErrInvalidArgument.WithMessage("it is neither a file nor a folder")
}

// attach mounts what fd refers to.
func attach(fd int, path string, writable bool) error {
	tree, err := unix.OpenTree(fd, "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH)
	if err != nil {
		return fmt.Errorf("open_tree: %w", err)
	}
	defer unix.Close(tree)
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV, Propagation: unix.MS_PRIVATE}
	if !writable {
		attr.Attr_set |= unix.MOUNT_ATTR_RDONLY
	}
	if err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, &attr); err != nil {
		return fmt.Errorf("mount_setattr: %w", err)
	}
	if err := unix.MoveMount(tree, "", unix.AT_FDCWD, path, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("move_mount: %w", err)
	}
	// A mount that comes below a shared one is made shared.
	if err := unix.Mount("", path, "", unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make it private: %w", err)
	}
	return nil
}

// Remove takes all of a sandbox's mounts away. What still uses one keeps it until it ends.
func (s Stage) Remove(id string) error {
	dir := filepath.Join(s.Dir, id)
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("unmount what %s was shown: %w", id, err)
	}
	var errs []error
	for _, e := range entries {
		errs = append(errs, detach(filepath.Join(dir, e.Name())))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("unmount what %s was shown: %w", id, err)
	}
	// Not RemoveAll: what is not empty has something mounted on it.
	return os.Remove(dir)
}

// detach unmounts whatever is at path, then removes what it covered.
func detach(path string) error {
	for {
		err := unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
		if errors.Is(err, unix.EINVAL) { // nothing is mounted there
			return os.Remove(path)
		}
		if err != nil {
			return &fs.PathError{Op: "unmount", Path: path, Err: err}
		}
	}
}

// Left lists the sandboxes that have something staged.
func (s Stage) Left() ([]string, error) {
	entries, err := os.ReadDir(s.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var ids []string
	for _, e := range entries {
		ids = append(ids, e.Name())
	}
	return ids, err
}
