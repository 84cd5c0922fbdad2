package defects

import (
	"context"
	"errors"
	"os"
	"path/filepath"

	"brig/tests/peer"

	containerd "github.com/containerd/containerd/v2/pkg/shim"
	"golang.org/x/sys/unix"
)

// edited and unedited are the paths of gVisor's shim.
var edited, unedited string

// withPeers runs the suite with gVisor's shim built.
func withPeers(run func() int) (code int, err error) {
	dir, err := os.MkdirTemp("", "brig-peer-")
	if err != nil {
		return 1, err
	}
	defer os.RemoveAll(dir)
	ctx := context.Background()
	if edited, err = peer.Build(ctx, filepath.Join(dir, "edited"), os.Stderr); err != nil {
		return 1, err
	}
	if unedited, err = peer.BuildUnedited(ctx, filepath.Join(dir, "unedited"), os.Stderr); err != nil {
		return 1, err
	}
	var made []string
	for _, path := range peerFolders {
		if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
			made = append(made, path)
		}
	}
	code = run()
	for _, path := range made { // the empty ones of them
		_ = os.Remove(path)
	}
	return code, nil
}

// peerFolders are where gVisor's shim leaves things whatever it is told: sockets, and the
// state of a runsc that it runs by its own defaults. The inner ones come first.
var peerFolders = []string{"/run/containerd/s", "/run/containerd/runsc", "/run/containerd"}

// removePeerFiles that this node left there.
func (n *node) removePeerFiles() error {
	state := filepath.Join(peerFolders[1], n.name)
	_ = unix.Unmount(filepath.Join(state, "null-netns"), unix.MNT_DETACH) // often not there
	errs := []error{os.RemoveAll(state)}
	for _, id := range n.made {
		address, err := containerd.CreateSocketAddress(n.context(context.Background()), peerFolders[0], n.path("containerd.sock"), id, false)
		if err == nil {
			err = containerd.RemoveSocket(address)
		}
		if !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
