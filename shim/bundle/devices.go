package bundle

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// devices that the sandbox's kernel has, by major and minor number.
var devices = [][2]int64{{1, 3}, {1, 5}, {1, 7}, {1, 8}, {1, 9}, {5, 0}, {5, 1}, {5, 2}, {10, 200}, {10, 229}}

// checkDevices: runsc makes a node for every device, and for most of them nobody would
// answer when it is opened. gpus are those that nvproxy answers for.
func checkDevices(list []specs.LinuxDevice, gpus []string) error {
	for _, d := range list {
		character := (d.Type == "c" || d.Type == "u") && slices.Contains(devices, [2]int64{d.Major, d.Minor})
		gpu := d.Type == "c" && slices.Contains(gpus, d.Path)
		if !character && d.Type != "p" && !gpu {
			return unsupported("linux.devices", d.Path+": a sandbox has no devices of the host"+
				" (for privileged pods: privileged_without_host_devices)")
		}
	}
	return nil
}

// nvidiaMajor is of the driver's nodes, but for those of nvidia-uvm.
const nvidiaMajor = 195

// uvm is how /proc/devices calls the driver of unified memory, whose number is chosen when
// it is loaded.
const uvm = "nvidia-uvm"

// CheckGPUs wants the nodes among list that gpus names to be NVIDIA's, by their numbers, and
// those of the host at the same paths: runsc's gofer opens what lies there, whatever the
// spec says it is. root is where the host's /dev and /proc are.
func CheckGPUs(root string, list []specs.LinuxDevice, gpus []string) error {
	for _, d := range list {
		if !slices.Contains(gpus, d.Path) {
			continue
		}
		if err := checkGPU(root, d); err != nil {
			return err
		}
	}
	return nil
}

func checkGPU(root string, d specs.LinuxDevice) error {
	if d.Major != nvidiaMajor {
		major, err := majorOf(root, uvm)
		if err != nil {
			return err
		}
		if d.Major != major {
			return invalid("linux.devices", "%s is %d:%d, and %s of this host has the number %d: make the CDI specification again",
				d.Path, d.Major, d.Minor, uvm, major)
		}
	}
	var st unix.Stat_t
	err := unix.Lstat(filepath.Join(root, d.Path), &st)
	switch {
	case errors.Is(err, unix.ENOENT):
		return fmt.Errorf("linux.devices: this host has no %s: load the driver and make its nodes, nvidia-modprobe -c 0 -u: %w", d.Path, errdefs.ErrFailedPrecondition)
	case err != nil:
		return fmt.Errorf("linux.devices: %s: %w", d.Path, err)
	case st.Mode&unix.S_IFMT != unix.S_IFCHR || int64(unix.Major(st.Rdev)) != d.Major || int64(unix.Minor(st.Rdev)) != d.Minor:
		return invalid("linux.devices", "%s is not the device %d:%d on this host: make the CDI specification again", d.Path, d.Major, d.Minor)
	}
	return nil
}

// majorOf a driver of character devices.
func majorOf(root, driver string) (int64, error) {
	f, err := os.Open(filepath.Join(root, "proc", "devices"))
	if err != nil {
		return 0, fmt.Errorf("linux.devices: %w", err)
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan() && lines.Text() != "Block devices:"; {
		fields := strings.Fields(lines.Text())
		if len(fields) != 2 || fields[1] != driver {
			continue
		}
		return strconv.ParseInt(fields[0], 10, 32)
	}
	return 0, fmt.Errorf("linux.devices: %s is not loaded: nvidia-modprobe -c 0 -u: %w", driver, errdefs.ErrFailedPrecondition)
}
