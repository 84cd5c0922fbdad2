package runsc

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// KillStrays kills every process of a sandbox whose runsc was killed half-way through
// a create, before it had a state that delete could find: they were started with the
// bundle's path as an argument.
func KillStrays(bundle string) error {
	lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return err
	}
	var errs []error
	for _, path := range lines {
		cmdline, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		if !bytes.Contains(cmdline, []byte("--bundle="+bundle+"\x00")) && !bytes.Contains(cmdline, []byte("--bundle\x00"+bundle+"\x00")) {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err == nil {
			err = unix.Kill(pid, unix.SIGKILL)
		}
		if !errors.Is(err, unix.ESRCH) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
