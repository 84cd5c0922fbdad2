// Package gpus knows the NVIDIA GPUs of the node, and which sandbox has which.
//
// What there is, a program of its own tells (gpu.generator, tools/nvcdi): it loads NVIDIA's
// library, which brigd, being static, cannot. It runs once when brigd starts, behind the
// calls, and again when the driver or its devices may have changed. Whatever goes wrong
// with it, the node goes on without GPUs and says why. What it tells of CDI is kept where
// the shim reads it, and published for other callers.
//
// Who has what is in the records of sandboxes and nowhere else: Allotments are built of
// them when brigd starts. A GPU is a sandbox's from before its intent is on disk until
// nothing of the sandbox is left on the node, however that comes about.
//
// Everything here is safe for concurrent use.
package gpus

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"

	"tags.cncf.io/container-device-interface/pkg/cdi"

	"brig/nodeagent/record"
)

// GPU of the node, as its driver tells of it.
type GPU struct {
	Index int    `json:"index"`
	UUID  string `json:"uuid"`
	Name  string `json:"name"`
	// MemoryBytes of its own; 0: it shares the machine's.
	MemoryBytes uint64 `json:"memory_bytes"`
	PCI         string `json:"pci"`
	// Minor number of its device node; below 0: it is not known.
	Minor int `json:"minor"`
	// MIG: it is cut into instances.
	MIG bool `json:"mig,omitempty"`
	// Fault is what else keeps it from being given.
	Fault string `json:"fault,omitempty"`
}

// Impediment is why nobody can have it; empty: it can be given.
func (g GPU) Impediment() string {
	if g.MIG {
		return fmt.Sprintf("it is cut into instances (MIG), which gVisor cannot give: turn that off with nvidia-smi -i %d -mig 0", g.Index)
	}
	return g.Fault
}

// Inventory is what a node has.
type Inventory struct {
	// Unavailable is why there is nothing that could be given; empty: see each GPU.
	Unavailable string `json:"unavailable,omitempty"`
	// Driver is its version; empty: there is none.
	Driver string `json:"driver,omitempty"`
	// GPUs in the order of their indices.
	GPUs []GPU `json:"gpus"`
	// CDI is the specification of those that can be given, by index and by UUID.
	CDI json.RawMessage `json:"cdi,omitempty"`
}

// none is an inventory without GPUs.
func none(format string, args ...any) Inventory {
	return Inventory{Unavailable: fmt.Sprintf(format, args...)}
}

// parse reads what the generator has written. It believes a driver, but no form that it
// does not know.
func parse(data []byte) (Inventory, error) {
	var i Inventory
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&i); err != nil {
		return Inventory{}, fmt.Errorf("read what it tells: %w", err)
	}
	if dec.More() {
		return Inventory{}, fmt.Errorf("read what it tells: there is more than one value")
	}
	if len(i.GPUs) > record.MaxGPUs {
		return Inventory{}, fmt.Errorf("it tells of %d GPUs: at most %d", len(i.GPUs), record.MaxGPUs)
	}
	for n, g := range i.GPUs {
		if g.Index != n {
			return Inventory{}, fmt.Errorf("GPU %d of those it tells of has index %d", n, g.Index)
		}
		same := func(o GPU) bool { return o.UUID == g.UUID }
		if g.Impediment() == "" && (!record.IsGPU(g.UUID) || g.Minor < 0 || slices.ContainsFunc(i.GPUs[:n], same)) {
			return Inventory{}, fmt.Errorf("GPU %d has UUID %q and minor number %d", n, g.UUID, g.Minor)
		}
	}
	return i, i.checkCDI()
}

// checkCDI holds the specification against the GPUs: exactly those that can be given are
// named, so that whoever reads it can be given no other.
func (i Inventory) checkCDI() error {
	want := map[string]bool{}
	for _, g := range i.GPUs {
		if i.Unavailable == "" && g.Impediment() == "" {
			want[g.UUID], want[strconv.Itoa(g.Index)] = true, true
		}
	}
	names := map[string]bool{}
	if len(i.CDI) > 0 {
		spec, err := cdi.ParseSpec(i.CDI)
		if err != nil {
			return fmt.Errorf("read its CDI specification: %w", err)
		}
		if spec.Kind != record.CDIKind {
			return fmt.Errorf("its CDI specification is of %q: want %s", spec.Kind, record.CDIKind)
		}
		for _, d := range spec.Devices {
			names[d.Name] = true
		}
	}
	for name := range names {
		if !want[name] {
			return fmt.Errorf("its CDI specification names %q, which cannot be given", name)
		}
		delete(want, name)
	}
	for name := range want {
		return fmt.Errorf("its CDI specification does not name GPU %s", name)
	}
	return nil
}
