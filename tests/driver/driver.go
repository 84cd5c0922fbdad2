// Package driver makes what an installed NVIDIA driver has, on machines without one: for
// the program that tells brigd of eight GPUs that are not there (bin/mock/brig-nvcdi, which
// make deps builds). Nothing behind the device nodes works.
package driver

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// GPUs is how many there are.
const GPUs = 8

// UUID of the GPU of an index.
func UUID(index int) string { return fmt.Sprintf("GPU-%08x-0000-4000-8000-000000000000", index) }

// nvidia is the major number of its device nodes.
const nvidia = 195

// Make fills root, which is made if it is not there.
func Make(root string) error {
	const lib = "usr/lib/x86_64-linux-gnu/"
	var errs []error
	for _, name := range []string{
		lib + "libcuda.so.999.88.77", lib + "libnvidia-ml.so.999.88.77", "usr/bin/nvidia-smi", "etc/ld.so.cache", "tests/gpus",
	} {
		path := filepath.Join(root, name)
		errs = append(errs, os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, nil, 0o755))
	}
	for _, name := range []string{"libcuda.so", "libnvidia-ml.so"} {
		errs = append(errs, os.Symlink(name+".999.88.77", filepath.Join(root, lib, name+".1")))
	}
	nodes := map[string]uint64{"nvidiactl": unix.Mkdev(nvidia, 255), "nvidia-uvm": unix.Mkdev(511, 0), "nvidia-uvm-tools": unix.Mkdev(511, 1)}
	for n := range GPUs {
		nodes[fmt.Sprint("nvidia", n)] = unix.Mkdev(nvidia, uint32(n))
	}
	errs = append(errs, os.MkdirAll(filepath.Join(root, "dev"), 0o755))
	for name, device := range nodes {
		errs = append(errs, unix.Mknod(filepath.Join(root, "dev", name), unix.S_IFCHR|0o666, int(device)))
	}
	return errors.Join(errs...)
}

// Say tells the program what is different, a line each: mig N, lost N, none. It is noticed
// within seconds, as a change of the driver's libraries is.
func Say(root string, lines ...string) error {
	return errors.Join(
		os.WriteFile(filepath.Join(root, "tests/gpus"), []byte(strings.Join(lines, "\n")), 0o644),
		os.WriteFile(filepath.Join(root, "etc/ld.so.cache"), []byte(strings.Join(lines, "\n")), 0o644),
	)
}

// Overrides is the [gpu] of a node that is told of them; bin is the repository's.
func Overrides(bin, root string) string {
	return fmt.Sprintf("[gpu]\ngenerator = %q\ndriver_root = %q\nspec_dirs = []\n", filepath.Join(bin, "mock", "brig-nvcdi"), root)
}
