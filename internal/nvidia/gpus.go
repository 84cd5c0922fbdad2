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

// each looks at the GPUs one by one. Without Minors, what is wrong with some refuses only
// if no other is left: whoever chooses a GPU asks again for that one.
func (n Node) each() []Finding {
	gpus, err := GPUs(n.Proc)
	if err != nil {
		return []Finding{{Subject: "devices", Problem: err.Error(), Remedy: "look at the kernel's log for NVRM, and load the module anew", Refuses: true}}
	}
	if len(gpus) == 0 {
		return []Finding{{
			Subject: "devices", Problem: "the driver is loaded and serves no GPU",
			Remedy: "look at the kernel's log for NVRM: another driver (vfio-pci, nouveau) may hold it", Refuses: true,
		}}
	}
	partitioned, err := Partitioned(n.Proc)
	if err != nil {
		return []Finding{{Subject: "MIG", Problem: err.Error(), Remedy: "look whether MIG is on: nvidia-smi -q -d MIG", Refuses: true}}
	}
	asked := n.Minors
	if len(asked) == 0 {
		for _, g := range gpus {
			asked = append(asked, g.Minor)
		}
	}
	var found []Finding
	for _, minor := range asked {
		if f := n.gpu(minor, gpus, partitioned); f != nil {
			found = append(found, *f)
		}
	}
	for i := range found {
		found[i].Refuses = len(n.Minors) > 0 || len(found) == len(asked)
	}
	return found
}

// gpu is what is wrong with one; nil: nothing.
func (n Node) gpu(minor int, gpus []GPU, partitioned []int) *Finding {
	at := slices.IndexFunc(gpus, func(g GPU) bool { return g.Minor == minor })
	if at < 0 {
		return &Finding{Subject: "devices", Problem: fmt.Sprintf("the driver serves no GPU with minor number %d", minor), Remedy: "ask for another one: nvidia-smi -L lists them"}
	}
	if err := n.node(fmt.Sprintf("nvidia%d", minor), major, uint32(minor)); err != nil {
		return &Finding{Subject: "devices", Problem: err.Error(), Remedy: fmt.Sprintf("make it anew: nvidia-modprobe -c %d", minor)}
	}
	// nvproxy emulates no capability nodes, so a program inside could open no instance, and
	// the whole GPU is not to be had either.
	if slices.Contains(partitioned, minor) {
		return &Finding{
			Subject: "MIG", Problem: fmt.Sprintf("the GPU of /dev/nvidia%d is partitioned, and gVisor has no MIG", minor),
			Remedy: fmt.Sprintf("remove its instances and switch MIG off: nvidia-smi -i %s -mig 0", gpus[at].Bus),
		}
	}
	return nil
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
