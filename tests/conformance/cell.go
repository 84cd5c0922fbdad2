package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"brig/internal/config"
	"brig/tests/registry"

	"github.com/pelletier/go-toml/v2"
	"golang.org/x/sys/unix"
)

// A cell is where one test runs: mount, process, network and IPC namespaces of its
// own, so that whatever the test does or leaves, a hang included, ends with the
// first process of the cell. Only cgroups are the machine's: see removeCgroups.
//
// What follows is that first process. It is this program, started as
//
//	conformance cell RUNTIME BIN SUITE TEST ARGUMENTS...
//
// It writes a byte to descriptor 3 when somebody opens the runtime's shim.

// cellVerb makes this program the first process of a cell.
const cellVerb = "cell"

const (
	cellDir   = "/run/cell" // on the cell's own /run
	cellBin   = cellDir + "/bin"
	cellTmp   = cellDir + "/t"
	cellHost  = cellDir + "/host"  // the folder of brig's binaries
	cellSuite = cellDir + "/suite" // the folder of the suite's
)

// noCell is the status of a cell that could not be made.
const noCell = 125

func cellMain(ctx context.Context, args []string) int {
	if len(args) < 4 || os.Getpid() != 1 {
		fmt.Fprintln(os.Stderr, "cell: this is for conformance itself")
		return noCell
	}
	code, err := cell(ctx, args[0], args[1], args[2], args[3:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "cell:", err)
		return noCell
	}
	return code
}

// cell runs the suite with the arguments test and returns its status.
func cell(ctx context.Context, runtime, bin, suite string, test []string) (int, error) {
	// First what is read from the repository, which may be where furnish puts new
	// file systems.
	busybox, images, err := serveImages(ctx)
	if err != nil {
		return 0, err
	}
	defer images.Close()
	if err := furnish(bin, suite); err != nil {
		return 0, err
	}
	if err := populate(runtime); err != nil {
		return 0, err
	}
	list, err := toml.Marshal(map[string]string{"BusyBox": busybox, "VolumeOwnership": busybox})
	if err != nil {
		return 0, err
	}
	if err := os.WriteFile(cellDir+"/images.toml", list, 0o644); err != nil {
		return 0, err
	}
	if err := watch(filepath.Join(cellBin, shimName(runtime)), os.NewFile(3, "reached")); err != nil {
		return 0, err
	}
	cmd := exec.Command(cellSuite+"/client.test", test...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = cellTmp, os.Stdout, os.Stderr
	cmd.Env = []string{
		"PATH=" + cellBin + ":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=" + cellTmp, "TMPDIR=" + cellTmp,
		"TEST_RUNTIME=" + runtime, "TEST_IMAGE_LIST=" + cellDir + "/images.toml", config.EnvPath + "=" + cellDir + "/brig.toml",
	}
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	return reap(cmd.Process.Pid)
}

// serveImages answers on the cell's loopback, to which containerd speaks plain HTTP,
// and returns the reference of the only image.
func serveImages(ctx context.Context) (string, *registry.Registry, error) {
	busybox, err := image(ctx)
	if err != nil {
		return "", nil, err
	}
	if err := exec.CommandContext(ctx, "ip", "link", "set", "lo", "up").Run(); err != nil {
		return "", nil, fmt.Errorf("bring up the loopback: %w", err)
	}
	var lc net.ListenConfig
	listener, err := lc.Listen(ctx, "tcp4", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	r := registry.Serve(listener)
	ref, err := r.Push("busybox:1", busybox)
	return ref, r, err
}

// furnish gives the cell file systems of its own where the suite, containerd, the
// shim and the runtime write.
func furnish(bin, suite string) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	folders := [][2]string{{bin, cellHost}, {suite, cellSuite}}
	var handles []string
	for _, f := range folders {
		dir, err := os.Open(f[0])
		if err != nil {
			return err
		}
		defer dir.Close()
		handles = append(handles, fmt.Sprintf("/proc/self/fd/%d", dir.Fd()))
	}
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	for _, dir := range []string{"/run", "/tmp", "/var/lib", "/dev/shm"} {
		if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=755"); err != nil {
			return fmt.Errorf("mount %s: %w", dir, err)
		}
	}
	for _, dir := range []string{cellBin, cellTmp, cellHost, cellSuite} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	for i, f := range folders {
		if err := unix.Mount(handles[i], f[1], "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
			return fmt.Errorf("mount %s: %w", f[0], err)
		}
	}
	return nil
}

// shimName is the program of a runtime called io.containerd.NAME.VERSION.
func shimName(runtime string) string {
	parts := strings.Split(runtime, ".")
	return "containerd-shim-" + strings.Join(parts[max(0, len(parts)-2):], "-")
}

// populate makes the folder of programs, and brig's configuration.
func populate(runtime string) error {
	programs := []string{
		cellHost + "/containerd-shim-brig-v1", cellHost + "/deps/containerd-shim-runc-v2", cellHost + "/deps/containerd",
		cellHost + "/deps/runc", cellSuite + "/runc-fp",
	}
	for _, program := range programs {
		if err := os.Symlink(program, filepath.Join(cellBin, filepath.Base(program))); err != nil {
			return err
		}
	}
	// A copy, which nobody outside opens.
	shim := filepath.Join(cellBin, shimName(runtime))
	binary, err := os.ReadFile(shim)
	if err != nil {
		return fmt.Errorf("no shim for runtime %s: %w", runtime, err)
	}
	if err := errors.Join(os.Remove(shim), os.WriteFile(shim, binary, 0o755)); err != nil {
		return err
	}
	if !forRunc(runtime) {
		if err := os.WriteFile(filepath.Join(cellBin, "criu"), []byte("#!/bin/false\n"), 0o755); err != nil {
			return err
		}
	}
	c := config.Defaults()
	c.Runsc.Path = cellHost + "/deps/runsc"
	text, err := toml.Marshal(c)
	if err != nil {
		return err
	}
	return os.WriteFile(cellDir+"/brig.toml", text, 0o644)
}

// watch tells reached once path is opened, be it to run it or to copy it.
func watch(path string, reached *os.File) error {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC)
	if err != nil {
		return err
	}
	if _, err := unix.InotifyAddWatch(fd, path, unix.IN_OPEN|unix.IN_ONESHOT); err != nil {
		return fmt.Errorf("watch %s: %w", path, err)
	}
	unix.CloseOnExec(int(reached.Fd()))
	go func() {
		var event [unix.SizeofInotifyEvent]byte
		if n, err := unix.Read(fd, event[:]); err == nil && n > 0 {
			_, _ = reached.Write([]byte{1})
		}
	}()
	return nil
}

// reap waits for every process of the cell, as its first must, until the test has
// ended, and returns the test's status.
func reap(test int) (int, error) {
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
		case err != nil:
			return 0, fmt.Errorf("wait: %w", err)
		case pid == test && status.Signaled():
			return 128 + int(status.Signal()), nil
		case pid == test:
			return status.ExitStatus(), nil
		}
	}
}
