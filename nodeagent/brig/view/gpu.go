package view

import (
	"fmt"
	"strings"

	brigv1 "brig/nodeagent/api/brig/v1"
)

// GPU is one of the node's under --json.
type GPU struct {
	Index       uint32 `json:"index"`
	UUID        string `json:"uuid"`
	Name        string `json:"name"`
	MemoryBytes uint64 `json:"memory_bytes"`
	PCI         string `json:"pci"`
	// Free: it can be asked for.
	Free bool `json:"free"`
	// Sandboxes that have it, of those that the caller may see.
	Sandboxes []string `json:"sandboxes"`
	// Fault is why nobody can have it.
	Fault string `json:"fault,omitempty"`
}

// OfGPUs converts a list.
func OfGPUs(in []*brigv1.GPU) []GPU {
	return each(in, func(g *brigv1.GPU) GPU {
		return GPU{
			Index: g.GetIndex(), UUID: g.GetUuid(), Name: g.GetName(), MemoryBytes: g.GetMemoryBytes(), PCI: g.GetPci(),
			Free: g.GetFree(), Sandboxes: list(g.GetSandboxes()), Fault: g.GetFault(),
		}
	})
}

// Words are the GPU in one line: what it is, and whose.
func (g GPU) Words() string {
	words := []string{fmt.Sprint(g.Index)}
	for _, known := range []string{g.UUID, g.Name} {
		if known != "" {
			words = append(words, known)
		}
	}
	if g.MemoryBytes > 0 {
		words = append(words, Bytes(g.MemoryBytes))
	}
	return strings.Join(words, " ") + ": " + g.state()
}

func (g GPU) state() string {
	switch {
	case g.Fault != "":
		return "cannot be given: " + g.Fault
	case len(g.Sandboxes) > 0:
		return "of " + strings.Join(g.Sandboxes, ", ")
	case g.Free:
		return "free"
	}
	return "taken"
}
