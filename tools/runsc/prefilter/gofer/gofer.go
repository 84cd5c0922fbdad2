// Package gofer gives gVisor's filter package the system call filters that were computed
// when runsc was built, so that a gofer need not compute its own at each start: that is
// a third of the time between a start and the program's first instruction. gVisor's
// own build does so by Bazel and its Go module leaves the place empty, hence linkname.
//
// Without the build tag prefilter this package has no filters, and changes nothing.
package gofer

import (
	_ "unsafe" // for linkname

	"gvisor.dev/gvisor/pkg/seccomp/precompiledseccomp"
	"gvisor.dev/gvisor/runsc/fsgofer/filter"
)

//go:linkname precompiled gvisor.dev/gvisor/runsc/fsgofer/filter.precompiledPrograms
var precompiled map[string]precompiledseccomp.Program

// register is called by programs.go, which `make deps` generates.
func register(programs ...precompiledseccomp.Program) {
	filter.ListPrecompiled() // makes the map, once
	for _, p := range programs {
		precompiled[p.Name] = p
	}
}
