package main

import (
	"fmt"
	"strings"

	"github.com/NVIDIA/go-nvlib/pkg/nvlib/device"
	"github.com/NVIDIA/go-nvml/pkg/nvml"
	"tags.cncf.io/container-device-interface/specs-go"
)

// Document is what is written.
type Document struct {
	// Unavailable is why there is no GPU that could be asked for; empty: there may be some.
	Unavailable string `json:"unavailable,omitempty"`
	// Driver is its version.
	Driver string `json:"driver,omitempty"`
	// GPUs in the order of their indices.
	GPUs []GPU `json:"gpus"`
	// CDI names those that can be given, by index and by UUID; absent: none can.
	CDI *specs.Spec `json:"cdi,omitempty"`
}

// GPU as NVML tells of it.
type GPU struct {
	Index int    `json:"index"`
	UUID  string `json:"uuid"`
	Name  string `json:"name"`
	// MemoryBytes of its own; 0: it shares the host's.
	MemoryBytes uint64 `json:"memory_bytes"`
	// PCI is its address, as in /sys/bus/pci/devices.
	PCI string `json:"pci"`
	// Minor number of /dev/nvidiaN, N being this number.
	Minor int `json:"minor"`
	// MIG: it is cut into instances, which gVisor cannot give.
	MIG bool `json:"mig,omitempty"`
	// Fault is why it cannot be given; empty: it can, unless MIG.
	Fault string `json:"fault,omitempty"`
}

// can tells whether nothing is known that keeps it from being given.
func (g GPU) can() bool { return !g.MIG && g.Fault == "" }

// Options of a run.
type Options struct {
	// DriverRoot is / or the root of a driver container.
	DriverRoot string
	// Hook is the program that CDI's hooks run.
	Hook string
}

// describe asks the driver.
func describe(o Options) (Document, error) {
	lib, missing := library(o.DriverRoot)
	if missing != "" {
		return Document{Unavailable: missing, GPUs: []GPU{}}, nil
	}
	return describeBy(lib, o)
}

func describeBy(lib nvml.Interface, o Options) (Document, error) {
	switch ret := lib.Init(); ret {
	case nvml.SUCCESS:
	case nvml.ERROR_LIBRARY_NOT_FOUND, nvml.ERROR_DRIVER_NOT_LOADED:
		return Document{Unavailable: "NVIDIA's driver is not loaded: " + reason(ret), GPUs: []GPU{}}, nil
	default:
		return Document{}, fmt.Errorf("start NVML: %s", reason(ret))
	}
	defer func() { _ = lib.Shutdown() }()
	driver, ret := lib.SystemGetDriverVersion()
	if ret != nvml.SUCCESS {
		return Document{}, fmt.Errorf("ask for the driver's version: %s", reason(ret))
	}
	gpus, err := inventory(lib)
	if err != nil {
		return Document{}, err
	}
	d := Document{Driver: driver, GPUs: gpus}
	if len(gpus) == 0 {
		d.Unavailable = "the driver has found no GPU"
	}
	err = specify(lib, o, &d)
	return d, err
}

func inventory(lib nvml.Interface) ([]GPU, error) {
	n, ret := lib.DeviceGetCount()
	if ret != nvml.SUCCESS {
		return nil, fmt.Errorf("count the GPUs: %s", reason(ret))
	}
	devices := device.New(lib)
	gpus := []GPU{}
	for i := range n {
		handle, ret := lib.DeviceGetHandleByIndex(i)
		if ret != nvml.SUCCESS {
			// One that has fallen off the bus takes no other with it.
			gpus = append(gpus, GPU{Index: i, Minor: -1, Fault: reason(ret)})
			continue
		}
		gpus = append(gpus, look(devices, handle, i))
	}
	return gpus, nil
}

// look at one. What cannot be learned of it keeps it from being given.
func look(devices device.Interface, handle nvml.Device, index int) GPU {
	g := GPU{Index: index, Minor: -1}
	fault := func(what string, err any) GPU {
		g.Fault = fmt.Sprintf("%s: %v", what, err)
		return g
	}
	var ret nvml.Return
	if g.UUID, ret = handle.GetUUID(); ret != nvml.SUCCESS {
		return fault("ask for its UUID", reason(ret))
	}
	if g.Name, ret = handle.GetName(); ret != nvml.SUCCESS {
		return fault("ask for its name", reason(ret))
	}
	if g.Minor, ret = handle.GetMinorNumber(); ret != nvml.SUCCESS {
		return fault("ask for its minor number", reason(ret))
	}
	memory, ret := handle.GetMemoryInfo()
	if ret != nvml.SUCCESS && ret != nvml.ERROR_NOT_SUPPORTED {
		return fault("ask for its memory", reason(ret))
	}
	g.MemoryBytes = memory.Total
	d, err := devices.NewDevice(handle)
	if err != nil {
		return fault("look at it", err)
	}
	if g.PCI, err = d.GetPCIBusID(); err != nil {
		return fault("ask for its address", err)
	}
	if g.MIG, err = d.IsMigEnabled(); err != nil {
		return fault("ask for its MIG mode", err)
	}
	return g
}

// reason is NVML's own text, in one line.
func reason(ret nvml.Return) string { return strings.TrimSpace(ret.String()) }
