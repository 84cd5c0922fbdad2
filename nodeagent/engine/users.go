package engine

import (
	"context"
	"errors"
	"fmt"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/pkg/oci"
	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// readImageConfig is containerd's own option WithImageConfig, shown the root filesystem as
// the kernel sees it and after checkUserFiles.
func readImageConfig(image containerd.Image) oci.SpecOpts {
	return func(ctx context.Context, client oci.Client, c *containers.Container, spec *oci.Spec) error {
		mounts, err := client.SnapshotService(c.Snapshotter).Mounts(ctx, c.SnapshotKey)
		if err != nil {
			return err
		}
		var fault error // kept apart from the mount's, which would put its path before it
		err = mount.WithReadonlyTempMount(ctx, mounts, func(root string) error {
			if fault = checkUserFiles(root); fault != nil {
				return nil
			}
			path := spec.Root.Path
			defer func() { spec.Root.Path = path }()
			spec.Root.Path = root
			fault = oci.WithImageConfig(image)(ctx, client, &containers.Container{ID: c.ID}, spec)
			return nil
		})
		return errors.Join(err, fault)
	}
}

// checkUserFiles refuses an image whose lists of users are not plain files. They are
// opened on the host to look up the image's user, and the open of a FIFO never ends.
func checkUserFiles(root string) error {
	dir, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("look at the image's users: %w", err)
	}
	defer unix.Close(dir)
	for _, name := range []string{"etc/passwd", "etc/group"} {
		mode, err := modeIn(dir, name)
		if errors.Is(err, unix.ENOENT) {
			continue
		}
		if err != nil || mode&unix.S_IFMT != unix.S_IFREG {
			return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("the image's /%s is not a plain file: use another image", name))
		}
	}
	return nil
}

// modeIn follows links as they lead inside dir, and opens nothing.
func modeIn(dir int, name string) (mode uint32, err error) {
	fd, err := unix.Openat2(dir, name, &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS})
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	err = unix.Fstat(fd, &st)
	return st.Mode, err
}
