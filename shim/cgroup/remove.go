package cgroup

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
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
	mountinfo, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil || !filepath.IsAbs(path) || filepath.Clean(path) == "/" {
		return nil
	}
	for line := range strings.Lines(string(mountinfo)) {
		mount, super, ok := strings.Cut(strings.TrimSpace(line), " - ")
		if a := strings.Fields(mount); ok && len(a) > 4 && strings.HasPrefix(super, "cgroup") {
			if rel, err := filepath.Rel(a[3], path); err == nil && !strings.HasPrefix(rel, "..") {
				out = append(out, filepath.Join(a[4], rel))
			}
		}
	}
	return out
}
