//go:build !mock

package main

import (
	"github.com/NVIDIA/go-nvml/pkg/nvml"
	"github.com/NVIDIA/nvidia-container-toolkit/pkg/lookup"
)

// library is NVML as the driver root has it, or why there is none.
func library(driverRoot string) (nvml.Interface, string) {
	const name = "libnvidia-ml.so.1"
	found, err := lookup.NewLibraryLocator(lookup.WithLogger(silent{}), lookup.WithRoot(driverRoot)).Locate(name)
	if err != nil || len(found) == 0 {
		return nil, "there is no NVIDIA driver: " + name + " is not below " + driverRoot
	}
	return nvml.New(nvml.WithLibraryPath(found[0])), ""
}
