package engine

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

func TestCheckUserFiles(t *testing.T) {
	for _, tc := range []struct {
		name string
		make func(root string) error
		ok   bool
	}{
		{"no users", func(string) error { return nil }, true},
		{"files", func(root string) error {
			return os.WriteFile(filepath.Join(root, "etc/passwd"), nil, 0o600)
		}, true},
		{"a link to a file of the image", func(root string) error {
			if err := os.WriteFile(filepath.Join(root, "users"), nil, 0o600); err != nil {
				return err
			}
			return os.Symlink("/users", filepath.Join(root, "etc/passwd"))
		}, true},
		{"a FIFO", func(root string) error { return unix.Mkfifo(filepath.Join(root, "etc/group"), 0o600) }, false},
		{"a link to a FIFO", func(root string) error {
			if err := unix.Mkfifo(filepath.Join(root, "fifo"), 0o600); err != nil {
				return err
			}
			return os.Symlink("../../../fifo", filepath.Join(root, "etc/group"))
		}, false},
		{"a folder", func(root string) error { return os.Mkdir(filepath.Join(root, "etc/passwd"), 0o700) }, false},
		{"a FIFO for /etc", func(root string) error {
			if err := os.Remove(filepath.Join(root, "etc")); err != nil {
				return err
			}
			return unix.Mkfifo(filepath.Join(root, "etc"), 0o600)
		}, false},
		{"a link in a circle", func(root string) error { return os.Symlink("group", filepath.Join(root, "etc/group")) }, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			root := t.TempDir()
			if err := os.Mkdir(filepath.Join(root, "etc"), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := tc.make(root); err != nil {
				t.Fatal(err)
			}
			if err := checkUserFiles(root); (err == nil) != tc.ok || err != nil && !errdefs.IsInvalidArgument(err) {
				t.Errorf("%v; want it accepted: %v", err, tc.ok)
			}
		})
	}
}
