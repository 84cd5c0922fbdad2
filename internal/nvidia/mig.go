package nvidia

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// partitions are GPUs in MIG mode: nvproxy emulates no capability nodes, so a program
// inside could open none of their instances, and the whole GPU is not to be had either.
func (n Node) partitions() (found []Finding) {
	minors, err := Partitioned(n.Proc)
	if err != nil {
		return []Finding{{Subject: "MIG", Problem: err.Error(), Remedy: "look whether MIG is on: nvidia-smi -q -d MIG", Refuses: true}}
	}
	for _, minor := range minors {
		if len(n.Minors) > 0 && !slices.Contains(n.Minors, minor) {
			continue
		}
		found = append(found, Finding{
			Subject: "MIG", Problem: fmt.Sprintf("the GPU of /dev/nvidia%d is partitioned, and gVisor has no MIG", minor),
			Remedy: fmt.Sprintf("remove its instances and switch MIG off: nvidia-smi -i %d -mig 0", minor), Refuses: true,
		})
	}
	return found
}

// Partitioned are the minor numbers of the GPUs that have MIG instances.
func Partitioned(proc string) (minors []int, err error) {
	dir := filepath.Join(proc, "driver", "nvidia", "capabilities")
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("look for partitioned GPUs: %w", err)
	}
	for _, e := range entries {
		number, ok := strings.CutPrefix(e.Name(), "gpu")
		if !ok {
			continue
		}
		minor, err := strconv.Atoi(number)
		if err != nil {
			return nil, fmt.Errorf("look for partitioned GPUs: %.40q is no GPU", e.Name())
		}
		instances, err := os.ReadDir(filepath.Join(dir, e.Name(), "mig"))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("look for partitioned GPUs: %w", err)
		}
		if slices.ContainsFunc(instances, func(i os.DirEntry) bool { return strings.HasPrefix(i.Name(), "gi") }) {
			minors = append(minors, minor)
		}
	}
	slices.Sort(minors)
	return minors, nil
}
