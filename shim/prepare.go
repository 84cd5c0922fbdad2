package shim

import (
	"os"

	"brig/internal/config"
	"brig/shim/bundle"
	"brig/shim/task"
	"brig/shim/wire"
)

// prepare uses the time in which containerd makes up its request: what can go wrong does so
// again in the create, which says it.
func prepare(tasks *task.Shim) {
	dir, err := os.Getwd()
	if err != nil {
		return
	}
	b := bundle.Bundle(dir)
	go func() {
		if cfg, err := config.Load(config.Path("")); err == nil {
			tasks.Ready(&cfg, b)
		}
		// Decoders are made of types at their first use.
		wire.Rehearse()
		_, _ = b.Spec()
	}()
}
