package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// cgroupNames match the cgroups that the suite makes at the top of each hierarchy:
// those of its containerd namespaces, and two for shims.
var cgroupNames = []string{"testing", "testing-Test*", "containerd/shim*", "containerd/oomshim"}

// removeCgroups takes away what the suite leaves, deepest first. All that it is
// called after has ended, so that no process is in them; the files in them do not
// count.
func removeCgroups() error {
	var errs []error
	for _, name := range cgroupNames {
		for _, hierarchy := range []string{"", "*"} {
			roots, err := filepath.Glob(filepath.Join("/sys/fs/cgroup", hierarchy, name))
			errs = append(errs, err)
			for _, root := range roots {
				errs = append(errs, removeTree(root))
			}
		}
	}
	// Their parent, unless somebody else is in it.
	for _, pattern := range []string{"/sys/fs/cgroup/containerd", "/sys/fs/cgroup/*/containerd"} {
		parents, _ := filepath.Glob(pattern)
		for _, parent := range parents {
			_ = os.Remove(parent)
		}
	}
	return errors.Join(errs...)
}

func removeTree(root string) error {
	var folders []string
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			folders = append(folders, path)
		}
		return err
	})
	for _, folder := range slices.Backward(folders) {
		err = errors.Join(err, os.Remove(folder))
	}
	return err
}
