package bundle

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"brig/internal/require"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// TestCheckDevices: of the host's, those alone that somebody vouches for.
func TestCheckDevices(t *testing.T) {
	gpus := []string{"/dev/nvidia0", "/dev/nvidiactl"}
	for _, c := range []struct {
		device specs.LinuxDevice
		ok     bool
	}{
		{specs.LinuxDevice{Path: "/dev/zz", Type: "c", Major: 1, Minor: 5}, true},
		{specs.LinuxDevice{Path: "/dev/nvidia0", Type: "c", Major: 195}, true},
		{specs.LinuxDevice{Path: "/dev/nvidia0", Type: "b", Major: 195}, false},
		{specs.LinuxDevice{Path: "/dev/nvidia1", Type: "c", Major: 195, Minor: 1}, false},
		{specs.LinuxDevice{Path: "/dev/sda", Type: "b", Major: 8}, false},
	} {
		if err := checkDevices([]specs.LinuxDevice{c.device}, gpus); (err == nil) != c.ok {
			t.Errorf("%+v: %v", c.device, err)
		}
	}
	if err := checkDevices([]specs.LinuxDevice{{Path: "/dev/nvidia0", Type: "c", Major: 195}}, nil); err == nil {
		t.Error("a GPU that nobody vouches for passes")
	}
}

// TestCheckGPUs: the gofer opens what lies at a path of the host, so that must be the
// device that the spec describes, and the driver's.
func TestCheckGPUs(t *testing.T) {
	require.Root(t)
	host := t.TempDir()
	dev := func(name string) string { return filepath.Join(host, "dev", name) }
	err := errors.Join(
		os.MkdirAll(dev(""), 0o755), os.Mkdir(filepath.Join(host, "proc"), 0o755),
		os.WriteFile(filepath.Join(host, "proc/devices"), []byte("Character devices:\n  1 mem\n195 nvidia\n510 nvidia-uvm\n\nBlock devices:\n  8 nvidia-uvm\n"), 0o644),
		unix.Mknod(dev("nvidia0"), unix.S_IFCHR|0o600, int(unix.Mkdev(195, 0))),
		unix.Mknod(dev("nvidia1"), unix.S_IFCHR|0o600, int(unix.Mkdev(8, 0))),
		unix.Mknod(dev("nvidia2"), unix.S_IFBLK|0o600, int(unix.Mkdev(195, 2))),
		os.WriteFile(dev("nvidia3"), nil, 0o600),
		os.Symlink("nvidia0", dev("nvidia4")),
		unix.Mknod(dev("nvidia-uvm"), unix.S_IFCHR|0o600, int(unix.Mkdev(510, 0))),
		unix.Mknod(dev("nvidia-uvm-tools"), unix.S_IFCHR|0o600, int(unix.Mkdev(8, 1))),
	)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		path         string
		major, minor int64
		want         string // of the error; empty: it passes
	}{
		{"/dev/nvidia0", 195, 0, ""},
		{"/dev/nvidia-uvm", 510, 0, ""},
		{"/dev/nvidia0", 195, 1, "/dev/nvidia0 is not the device 195:1 on this host"},
		{"/dev/nvidia1", 195, 1, "is not the device"},
		{"/dev/nvidia2", 195, 2, "is not the device"},
		{"/dev/nvidia3", 195, 3, "is not the device"},
		{"/dev/nvidia4", 195, 0, "is not the device"},
		{"/dev/nvidia5", 195, 5, "this host has no /dev/nvidia5"},
		{"/dev/nvidia-uvm", 8, 0, "nvidia-uvm of this host has the number 510"},
		{"/dev/nvidia-uvm-tools", 510, 1, "is not the device"},
	} {
		list := []specs.LinuxDevice{{Path: c.path, Type: "c", Major: c.major, Minor: c.minor}, {Path: "/dev/other", Type: "c"}}
		err := CheckGPUs(host, list, []string{c.path})
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s %d:%d: %v; want %q", c.path, c.major, c.minor, err, c.want)
		}
	}
	if err := os.WriteFile(filepath.Join(host, "proc/devices"), []byte("Character devices:\n195 nvidia\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	err = CheckGPUs(host, []specs.LinuxDevice{{Path: "/dev/nvidia-uvm", Type: "c", Major: 510}}, []string{"/dev/nvidia-uvm"})
	if err == nil || !strings.Contains(err.Error(), "nvidia-uvm is not loaded") {
		t.Errorf("without the driver of unified memory: %v", err)
	}
}
