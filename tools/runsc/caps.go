package main

import (
	"fmt"
	"slices"
	"syscall"
	"unsafe" // for linkname, too

	"github.com/moby/sys/capability"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
	_ "gvisor.dev/gvisor/runsc/cmd" // whose variable it is
	"gvisor.dev/gvisor/runsc/cmd/sandboxsetup"
)

// goferCaps are what gVisor leaves a gofer.
//
//go:linkname goferCaps gvisor.dev/gvisor/runsc/cmd.goferCaps
var goferCaps *specs.LinuxCapabilities

// dropBounding takes from all threads what a gofer's bounding set does not keep, and the
// capability to do so: gVisor does the same later, in as many steps, unless it cannot. What
// the process may do until then, and what it may in the end, is not changed by that.
func dropBounding() error {
	kept, err := sandboxsetup.CapsFromNames(goferCaps.Bounding)
	if err != nil {
		return err
	}
	last, err := capability.LastCap()
	if err != nil {
		return err
	}
	for c := capability.Cap(0); c <= last; c++ {
		if slices.Contains(kept, c) {
			continue
		}
		if _, _, errno := syscall.AllThreadsSyscall6(unix.SYS_PRCTL, unix.PR_CAPBSET_DROP, uintptr(c), 0, 0, 0, 0); errno != 0 {
			return fmt.Errorf("drop %s: %w", c, errno)
		}
	}
	if err := unix.Capget(&capHeader, &capData[0]); err != nil {
		return err
	}
	capData[0].Effective &^= 1 << unix.CAP_SETPCAP
	if _, _, errno := syscall.AllThreadsSyscall6(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&capHeader)), uintptr(unsafe.Pointer(&capData[0])), 0, 0, 0, 0); errno != 0 {
		return fmt.Errorf("drop %s: %w", capability.CAP_SETPCAP, errno)
	}
	return nil
}

// Variables, since they do not move while all threads read them.
var (
	capHeader = unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	capData   [2]unix.CapUserData
)
