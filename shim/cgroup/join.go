package cgroup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
)

// Join moves a process into the group of that path, which is there, in every
// hierarchy that has it.
func Join(path string, pid int) error {
	var errs []error
	joined := false
	for _, dir := range folders(path) {
		err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0)
		switch {
		case errors.Is(err, os.ErrNotExist):
		case err != nil:
			errs = append(errs, err)
		default:
			joined = true
		}
	}
	if err := errors.Join(errs...); err != nil || joined {
		return err
	}
	return fmt.Errorf("cgroup %s: %w", path, os.ErrNotExist)
}
