package shim

import (
	"math"
	"runtime"
	"runtime/debug"
	"time"
)

// A shim makes a sandbox, which takes it some three MiB that are mostly still in use
// afterwards, and then idles, most of them for ever. A first collection makes such a process
// larger, by a MiB: Go keeps two sets of its spans for each class of sizes, 6.5 KiB each, and
// fills the second one in a collection. So there is none before there is something to collect.
const (
	// startTime is how long the making of a sandbox takes at most, as a rule.
	startTime = 10 * time.Second
	// garbage may be so much, in bytes, before the first collection; from there on
	// garbagePercent of what is in use.
	garbage        = 2 << 20
	garbagePercent = 50
	// startMemory bounds, in bytes, a process that is still making its sandbox.
	startMemory = 64 << 20
)

// keepSmall has the process collect its garbage once it has made some.
func keepSmall() {
	debug.SetGCPercent(-1)
	debug.SetMemoryLimit(startMemory)
	runtime.AddCleanup(new(collected), func(struct{}) {
		debug.SetGCPercent(garbagePercent)
		debug.SetMemoryLimit(math.MaxInt64)
	}, struct{}{})
	time.AfterFunc(startTime, func() {
		if debug.SetMemoryLimit(-1) == startMemory {
			debug.SetMemoryLimit(inMemory() + garbage)
		}
	})
}

// collected is what nobody uses: its end tells of a collection.
type collected struct{ _ [1]*int }

// inMemory is what Go's limit of memory counts, in bytes.
func inMemory() int64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.Sys - m.HeapReleased)
}
