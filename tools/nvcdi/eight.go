//go:build mock

package main

import (
	"fmt"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock/dgxa100"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock/server"
)

// eight is NVIDIA's own mock of a DGX A100, with what it leaves open: UUIDs that stay the
// same, addresses, whether a handle is of a MIG device. Its driver's version is no real one.
func eight() *server.Server {
	s := dgxa100.New()
	s.DriverVersion = "999.88.77"
	for i, d := range s.Devices {
		gpu := d.(*server.Device)
		gpu.UUID = fmt.Sprintf("GPU-%08x-0000-4000-8000-000000000000", i)
		gpu.IsMigDeviceHandleFunc = func() (bool, nvml.Return) { return false, nvml.SUCCESS }
		gpu.GetMaxMigDeviceCountFunc = func() (int, nvml.Return) { return 0, nvml.SUCCESS }
		gpu.GetPciInfoFunc = func() (info nvml.PciInfo, _ nvml.Return) {
			for n, c := range []byte(fmt.Sprintf("0000F0F0:%02X:00.0", i)) {
				info.BusId[n] = int8(c)
			}
			return info, nvml.SUCCESS
		}
	}
	return s
}

// migOn has a GPU be cut into instances.
func migOn(s *server.Server, n int) { s.Devices[n].(*server.Device).MigMode = nvml.DEVICE_MIG_ENABLE }

// lose has a GPU fall off the bus.
func lose(s *server.Server, n int) {
	found := s.DeviceGetHandleByIndexFunc
	s.DeviceGetHandleByIndexFunc = func(i int) (nvml.Device, nvml.Return) {
		if i == n {
			return nil, nvml.ERROR_GPU_IS_LOST
		}
		return found(i)
	}
}
