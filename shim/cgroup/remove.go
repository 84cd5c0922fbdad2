package cgroup

import (
	"errors"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// Exists tells whether an OCI cgroups path is in any hierarchy.
func Exists(path string) bool {
	for _, dir := range folders(path) {
		if _, err := os.Stat(dir); err == nil {
			return true
		}
	}
	return false
}

// Remove removes an OCI cgroups path from every hierarchy. The caller has killed what
// was in it; what is not empty after a moment stays, and is an error.
func Remove(path string) error {
	var errs []error
	for _, dir := range folders(path) {
		err := os.Remove(dir)
		for until := time.Now().Add(time.Second); errors.Is(err, unix.EBUSY) && time.Now().Before(until); err = os.Remove(dir) {
			time.Sleep(10 * time.Millisecond) // the kernel tells nobody when the dead have left
		}
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// folders of an absolute path in every mounted hierarchy; none for what means a unit
// of systemd or is relative to a caller that is gone.
func folders(path string) (out []string) {
	if !filepath.IsAbs(path) || filepath.Clean(path) == "/" {
		return nil
	}
	mounts, err := hierarchies()
	if err != nil {
		return nil
	}
	for _, h := range mounts {
		if folder, ok := h.folder(path); ok {
			out = append(out, folder)
		}
	}
	return out
}
