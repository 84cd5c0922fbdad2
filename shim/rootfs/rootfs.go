// Package rootfs mounts a container's root filesystem and takes it away again.
//
// A container has a folder for it; whatever is mounted there is this container's and
// goes with it. The host's kernel does all mounts, EROFS among them, so that hooks and
// runsc's gofer find a tree of files whatever the snapshotter made it of. (runsc can
// read an EROFS image itself: it then skips createContainer hooks, takes one image and
// no stack of them, and not every layout of one. A start takes the same time.)
//
// The functions are safe for concurrent use on different folders.
package rootfs

import (
	"errors"
	"fmt"
	"os"
	"strings"

	apitypes "github.com/containerd/containerd/api/types"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Capabilities say which of containerd's own mounts the shim does in its place: a lone
// EROFS image, such as a view of an image of one layer. containerd would mount that
// elsewhere and give the shim nothing. What something is stacked on, and every
// transform, stays containerd's.
func Capabilities() *apitypes.MountCapabilities {
	return &apitypes.MountCapabilities{Types: []string{"erofs"}}
}

// Mount makes dir and mounts everything there, each at its target below dir, or leaves
// nothing mounted.
func Mount(mounts []mount.Mount, dir string) error {
	for _, m := range mounts {
		// containerd's mount manager leaves none of these; before it had one, a
		// snapshotter that needs it could still hand them out.
		if strings.Contains(m.Type, "/") {
			return fmt.Errorf("mount root filesystem: type %q is for containerd's mount manager, and this containerd did not use one: %w",
				m.Type, errdefs.ErrNotImplemented)
		}
	}
	if err := os.Mkdir(dir, 0o711); err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("mount root filesystem: %w", err)
	}
	if err := mount.All(mounts, dir); err != nil {
		return errors.Join(fmt.Errorf("mount root filesystem: %w", err), Unmount(dir))
	}
	return nil
}

// Unmount takes everything at and below dir away, also what something still uses: the
// container has ended, and what is left in use goes with its last user. To wait for
// that user, as an unmount of containerd's does, would hold up a delete by seconds for
// each mount. A dir that is not there is no error.
func Unmount(dir string) error {
	if err := mount.UnmountRecursive(dir, unix.MNT_DETACH); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("unmount root filesystem: %w", err)
	}
	return nil
}

// OverlaySelf keeps writes to a root in the root's own filesystem.
const OverlaySelf = "root:self"

// Overlay chooses where a container's writes to its root go, as runsc's --overlay2.
//
// For whoever keeps the root they go to the host, into the snapshot: commit, diff and
// cp of a stopped container read them there. For whoever does not, the sandbox's
// kernel keeps them to itself, which is faster: in the root filesystem ("self": one
// sparse file on the snapshot, gone with the sandbox), where they are page cache that
// the host can write back, since in memory they would count as the program's against
// its limit. A root that should be writable and is not leaves memory only.
func Overlay(root *specs.Root, kept bool) string {
	switch {
	case root.Readonly:
		return "none"
	case unix.Access(root.Path, unix.W_OK) != nil:
		return "root:memory"
	case kept:
		return "none"
	default:
		return OverlaySelf
	}
}
