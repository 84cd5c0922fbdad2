package nvidia

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// folders of libraries, below the driver's root.
var folders = []string{
	"usr/lib64", "usr/lib/x86_64-linux-gnu", "usr/lib/aarch64-linux-gnu", "usr/lib",
	"lib64", "lib/x86_64-linux-gnu", "lib/aarch64-linux-gnu", "lib",
	"usr/lib64/nvidia", "usr/lib/x86_64-linux-gnu/nvidia", "usr/lib/x86_64-linux-gnu/nvidia/current",
	"usr/local/nvidia/lib64", "usr/local/nvidia/lib", "usr/local/lib64", "usr/local/lib", "opt/nvidia/lib64", "opt/nvidia/lib",
}

// cuda is the library that every CUDA program loads, and that must be of the kernel
// module's version.
const cuda = "libcuda.so"

// libraries are compared with the kernel module: after an upgrade without a reboot they
// are of two versions, and every CUDA call fails.
func (n Node) libraries(driver Version) []Finding {
	found := Libraries(n.DriverRoot)
	bad := func(problem, remedy string) []Finding {
		return []Finding{{Subject: "libraries", Problem: problem, Remedy: remedy, Refuses: true}}
	}
	if len(found) == 0 {
		return bad(fmt.Sprintf("there is no %s.%s below %s, neither in the usual folders nor in those of etc/ld.so.cache", cuda, driver, n.DriverRoot),
			"install the driver's libraries, or set gpu.driver_root")
	}
	for _, v := range found {
		if v.Equal(driver) {
			return nil
		}
	}
	var paths []string
	for path := range found {
		paths = append(paths, path)
	}
	return bad(fmt.Sprintf("%s is of another version than the kernel module, %s", slices.MinFunc(paths, cmp.Compare[string]), driver),
		"restart the machine or load the module anew after an upgrade of the driver")
}

// Libraries are the files of CUDA's library below a driver's root, and of which version
// of the driver each is.
func Libraries(root string) map[string]Version {
	found := map[string]Version{}
	for _, dir := range slices.Concat(folders, cached(root)) {
		for name, v := range versioned(filepath.Join(root, dir)) {
			found[filepath.Join(root, dir, name)] = v
		}
	}
	return found
}

// versioned are the driver's libraries in a folder. One that cannot be read has none.
func versioned(dir string) map[string]Version {
	found := map[string]Version{}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	for _, e := range entries {
		suffix, ok := strings.CutPrefix(e.Name(), cuda+".")
		if !ok || !e.Type().IsRegular() && e.Type()&os.ModeSymlink == 0 {
			continue
		}
		if v, err := ParseVersion(suffix); err == nil {
			found[e.Name()] = v
		}
	}
	return found
}

// cached are the folders in which the linker's cache has the library. Of the cache only
// its strings are looked at: nothing is decided by them but where to look, too.
func cached(root string) (dirs []string) {
	text, err := read(filepath.Join(root, "etc", "ld.so.cache"))
	if err != nil {
		return nil
	}
	for entry := range strings.SplitSeq(text, "\x00") {
		if path := filepath.Clean(entry); filepath.IsAbs(entry) && filepath.Base(path) == cuda+".1" {
			dirs = append(dirs, filepath.Dir(path))
		}
	}
	return dirs
}
