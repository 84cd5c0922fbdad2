package server

import (
	brigv1 "brig/nodeagent/api/brig/v1"
	"brig/nodeagent/record"
	"brig/nodeagent/sandboxes"
)

func gpuOf(m *brigv1.GPURequest) *record.GPURequest {
	if m == nil {
		return nil
	}
	return &record.GPURequest{Count: m.GetCount(), Devices: m.GetDevices(), Capabilities: m.GetCapabilities()}
}

func gpusTo(list []sandboxes.GPU) (out []*brigv1.GPU) {
	for _, g := range list {
		m := &brigv1.GPU{
			Index: uint32(g.Index), Uuid: g.UUID, Name: g.Name, MemoryBytes: g.MemoryBytes, Pci: g.PCI, Free: g.Free, Fault: g.Impediment(),
		}
		for _, id := range g.Sandboxes {
			m.Sandboxes = append(m.Sandboxes, string(id))
		}
		out = append(out, m)
	}
	return out
}
