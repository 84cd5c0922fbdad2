package node

import (
	"errors"
	"os"
)

// ctrFolders are where ctr keeps its FIFOs, whatever containerd it talks to, the
// inner one first; it never removes them.
var ctrFolders = []string{"/run/containerd/fifo", "/run/containerd"}

// hadCtrFolders tells which of them this process found.
var hadCtrFolders = func() (had []bool) {
	for _, path := range ctrFolders {
		_, err := os.Stat(path)
		had = append(had, err == nil)
	}
	return had
}()

// RemoveCtrFolders removes those that were not there when the process began. It is
// for the end of a suite: no ctr may run any more.
func RemoveCtrFolders() error {
	var errs []error
	for i, path := range ctrFolders {
		if !hadCtrFolders[i] {
			errs = append(errs, os.RemoveAll(path))
		}
	}
	return errors.Join(errs...)
}
