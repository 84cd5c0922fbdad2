// Package descriptors readies the process for many open files.
//
// Linux grows a process's table of descriptors when a number does not fit, and the growth
// of a table that several threads share waits for an RCU grace period: ten milliseconds
// and more, in the middle of whatever opened the file. A brigd under load would pay that
// at every doubling, inside a create. So the table is grown once, at the start. It stays
// grown when the descriptor is closed; a child gets a table of the size it needs.
package descriptors

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// grown is the size that the table gets: 256 KiB of the kernel's memory.
const grown = 32768

// Ready raises the soft limit on open files to the hard one, grows the table, and returns
// the limit.
func Ready() (limit uint64, err error) {
	var r unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &r); err != nil {
		return 0, fmt.Errorf("read the limit on open files: %w", err)
	}
	if r.Cur < r.Max {
		r.Cur = r.Max
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &r); err != nil {
			return 0, fmt.Errorf("raise the limit on open files to %d: %w", r.Max, err)
		}
	}
	return r.Cur, grow(min(r.Cur, grown))
}

// grow opens a descriptor with the number size-1, or above, for an instant.
func grow(size uint64) error {
	fd, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("grow the table of open files: %w", err)
	}
	defer unix.Close(fd)
	high, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, int(size)-1)
	if err != nil {
		return fmt.Errorf("grow the table of open files to %d: %w", size, err)
	}
	return unix.Close(high)
}
