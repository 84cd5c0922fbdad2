package gpus

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// signature is what can be seen of the driver without asking it: its version, its GPUs and
// instances, the device nodes, its libraries (by the linker's cache, which is written when
// they are installed), the program that is asked, and others' CDI specifications. It is
// some dozens of system calls.
func (n *Node) signature() string {
	var b strings.Builder
	version, _ := os.ReadFile("/proc/driver/nvidia/version")
	fmt.Fprintf(&b, "%s\n", version)
	root := n.cfg.GPU.DriverRoot
	for _, pattern := range []string{
		"/proc/driver/nvidia/gpus/*", "/proc/driver/nvidia/capabilities/gpu*/mig/*",
		"/dev/nvidia*", filepath.Join(root, "dev/nvidia*"),
	} {
		names, _ := filepath.Glob(pattern)
		fmt.Fprintf(&b, "%s\n", strings.Join(names, " "))
	}
	for _, path := range slices.Concat([]string{n.ask.path, filepath.Join(root, "etc/ld.so.cache")}, n.others()) {
		if info, err := os.Stat(path); err == nil {
			fmt.Fprintf(&b, "%s %d %d\n", path, info.Size(), info.ModTime().UnixNano())
		}
	}
	return b.String()
}
