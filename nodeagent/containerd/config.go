// Package containerd runs a containerd of brigd's own beside it, when the
// configuration names a binary: detached, so that it outlives brigd, and found again
// by its socket and its pid file. It does not talk to it; that is the engine's.
//
// The configuration it writes makes a containerd that shares nothing with another one
// on the machine: no CRI, no NRI, no plugin folder, a state, a root and a folder of
// shim sockets of its own.
package containerd

import (
	"fmt"
	"path/filepath"

	"github.com/pelletier/go-toml/v2"

	"brig/internal/config"
)

// table is a TOML table.
type table = map[string]any

// disabled are the plugins that a sandbox node has no use for, or that would touch
// what is not brig's.
var disabled = []string{
	"io.containerd.grpc.v1.cri",
	"io.containerd.cri.v1.images",
	"io.containerd.cri.v1.runtime",
	"io.containerd.podsandbox.controller.v1.podsandbox",
	"io.containerd.nri.v1.nri",
	"io.containerd.internal.v1.opt",
	"io.containerd.image-verifier.v1.bindir",
	"io.containerd.monitor.container.v1.restart",
	"io.containerd.tracing.processor.v1.otlp",
	"io.containerd.internal.v1.tracing",
	"io.containerd.snapshotter.v1.blockfile",
	"io.containerd.snapshotter.v1.btrfs",
	"io.containerd.snapshotter.v1.devmapper",
	"io.containerd.snapshotter.v1.erofs",
	"io.containerd.snapshotter.v1.zfs",
}

// Render writes containerd's configuration for a node.
func Render(cfg *config.Config) ([]byte, error) {
	address := cfg.Containerd.Address
	data, err := toml.Marshal(table{
		"version":          4,
		"root":             filepath.Join(cfg.StateDir, "containerd"),
		"state":            filepath.Join(cfg.RunDir, "containerd"),
		"disabled_plugins": disabled,
		"plugins": table{
			"io.containerd.server.v1.grpc":  table{"address": address},
			"io.containerd.server.v1.ttrpc": table{"address": address + ".ttrpc"},
			// By default all containerds of a machine put them in one folder.
			"io.containerd.shim.v1.manager": table{"socket_dir": filepath.Join(cfg.RunDir, "s")},
		},
	})
	if err != nil {
		return nil, fmt.Errorf("render containerd's configuration: %w", err)
	}
	return append([]byte("# Written by brigd at each start.\n"), data...), nil
}
