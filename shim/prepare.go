package shim

import (
	"errors"
	"os"
	"runtime/debug"
	"time"

	"brig/internal/config"
	"brig/shim/bundle"
	"brig/shim/task"
)

const (
	// startGC is the garbage collector's percentage while a sandbox is made. containerd's
	// package has 40, for small shims, and three collections to each start.
	startGC = 400
	// startTime is how long that is; what has become garbage goes then.
	startTime = 10 * time.Second
)

// prepare uses the time in which containerd makes up its request.
func prepare(tasks *task.Shim) {
	idle := debug.SetGCPercent(startGC)
	time.AfterFunc(startTime, func() {
		debug.SetGCPercent(idle)
		debug.FreeOSMemory()
	})
	go func() {
		dir, errDir := os.Getwd()
		cfg, err := config.Load(config.Path(""))
		if errors.Join(err, errDir) == nil { // if there is one, the create says so
			tasks.Ready(&cfg, bundle.Bundle(dir))
		}
	}()
}
