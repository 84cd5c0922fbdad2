// Package clock reads the boot's clock, which counts from the machine's start, also
// through a suspend, and never jumps: the clock of deadlines. It pauses, too.
package clock

import (
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Now is the time since the machine's start.
func Now() (time.Duration, error) {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return 0, fmt.Errorf("read the boot's clock: %w", err)
	}
	return time.Duration(ts.Nano()), nil
}

// Boot names the machine's present run: readings of two boots do not compare.
func Boot() (string, error) {
	data, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("read the boot's id: %w", err)
	}
	return strings.TrimSpace(string(data)), nil
}
