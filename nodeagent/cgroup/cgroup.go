// Package cgroup removes the cgroup under which a node's sandboxes were, from every
// hierarchy that the machine has mounted: several with cgroup v1, one with v2.
package cgroup

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Remove removes the cgroup and what is below it. None may have a process.
func Remove(parent string) error {
	mounts, err := hierarchies("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	var errs []error
	for _, m := range mounts {
		errs = append(errs, removeTree(filepath.Join(m, parent)))
	}
	return errors.Join(errs...)
}

// hierarchies lists where cgroups are mounted.
func hierarchies(mountinfo string) (mounts []string, err error) {
	f, err := os.Open(mountinfo)
	if err != nil {
		return nil, fmt.Errorf("look for cgroups: %w", err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		before, after, ok := strings.Cut(lines.Text(), " - ")
		if !ok || !strings.HasPrefix(after, "cgroup") {
			continue
		}
		if fields := strings.Fields(before); len(fields) >= 5 {
			mounts = append(mounts, fields[4])
		}
	}
	return mounts, lines.Err()
}

// removeTree removes folders from the inside out; the files in them are the kernel's.
func removeTree(root string) error {
	var folders []string
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err == nil && d.IsDir() {
			folders = append(folders, path)
		}
		return err
	})
	slices.Reverse(folders)
	for _, f := range folders {
		if failed := os.Remove(f); failed != nil && !errors.Is(failed, fs.ErrNotExist) {
			err = errors.Join(err, failed)
		}
	}
	return err
}
