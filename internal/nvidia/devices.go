package nvidia

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Numbers that the driver has always had.
const (
	major        = 195
	minorControl = 255
)

// devices are the nodes that every program with a GPU opens: runsc does so by name, below
// /dev, following no link.
func (n Node) devices() (found []Finding) {
	bad := func(problem, remedy string) {
		found = append(found, Finding{Subject: "devices", Problem: problem, Remedy: remedy, Refuses: true})
	}
	if err := n.node("nvidiactl", major, minorControl); err != nil {
		bad(err.Error(), "make it anew: nvidia-modprobe, or nvidia-smi once as root")
	}
	const loadUVM = "load the module and make its node: nvidia-modprobe -c 0 -u"
	if uvm, err := majorOf(n.Proc, "nvidia-uvm"); err != nil {
		bad(err.Error(), loadUVM)
	} else if err := n.node("nvidia-uvm", uvm, 0); err != nil {
		bad(err.Error(), loadUVM)
	}
	return found
}

// node checks one in Dev.
func (n Node) node(name string, major, minor uint32) error {
	path := filepath.Join(n.Dev, name)
	var s unix.Stat_t
	switch err := unix.Lstat(path, &s); {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("there is no %s", path)
	case err != nil:
		return &os.PathError{Op: "look at", Path: path, Err: err}
	case s.Mode&unix.S_IFMT != unix.S_IFCHR:
		return fmt.Errorf("%s is no character device", path)
	case unix.Major(s.Rdev) != major || unix.Minor(s.Rdev) != minor:
		return fmt.Errorf("%s is device %d:%d, not the driver's %d:%d", path, unix.Major(s.Rdev), unix.Minor(s.Rdev), major, minor)
	}
	return nil
}

// majorOf is the number under which a module has registered its character devices.
func majorOf(proc, name string) (uint32, error) {
	text, err := read(filepath.Join(proc, "devices"))
	if err != nil {
		return 0, fmt.Errorf("read which devices there are: %w", err)
	}
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "Block devices:") {
			break
		}
		if f := strings.Fields(line); len(f) == 2 && f[1] == name {
			n, err := strconv.ParseUint(f[0], 10, 32)
			if err != nil {
				return 0, fmt.Errorf("read which devices there are: %w", err)
			}
			return uint32(n), nil
		}
	}
	return 0, fmt.Errorf("the kernel has no devices of %s", name)
}
