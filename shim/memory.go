package shim

import (
	"math"
	"os"
	"runtime"
	"runtime/debug"
)

// A shim makes a sandbox, which takes it some three MiB that are mostly still in use
// afterwards, and then idles, most of them for ever. A first collection makes such a process
// larger: Go keeps two sets of its spans for each class of sizes, 6.5 KiB each, and fills the
// second one in a collection, a MiB in all. So there is none before there is much to collect.
const (
	// firstMemory is so much, in bytes, as Go counts it, of which some six MiB are
	// its own, mostly never touched.
	firstMemory = 12 << 20
	// laterPercent of what is in use may be garbage from the first collection on.
	laterPercent = 50
)

// processors for Go, unless containerd says how many: each keeps spans of its own.
const processors = 2

// keepSmall has the process collect its garbage once it has made some.
func keepSmall() {
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(processors)
	}
	debug.SetMemoryLimit(firstMemory)
	debug.SetGCPercent(-1)
	runtime.AddCleanup(new(collected), func(struct{}) {
		debug.SetGCPercent(laterPercent)
		debug.SetMemoryLimit(math.MaxInt64)
	}, struct{}{})
}

// collected is what nobody uses: its end tells of a collection.
type collected struct{ _ [1]*int }
