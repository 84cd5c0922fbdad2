package task

import (
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// lowestOOMScore that this process may give: its own, unless it has the capability
// to go below.
func lowestOOMScore() int {
	data, err := os.ReadFile("/proc/self/oom_score_adj")
	own, errNumber := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil || errNumber != nil || hasCapability(unix.CAP_SYS_RESOURCE) {
		return -1000
	}
	return own
}

func hasCapability(capability int) bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	err := unix.Capget(&header, &data[0])
	return err == nil && data[capability/32].Effective&(1<<(capability%32)) != 0
}
