// Command gvisor_sentry is gVisor's kernel as a program of its own: runsc
// looks for it as gvisor-bin/gvisor_sentry beside itself.
package main

import (
	"runtime"

	"gvisor.dev/gvisor/runsc/cli"
	"gvisor.dev/gvisor/runsc/cmd/sentry/sentrycmd"
	"gvisor.dev/gvisor/runsc/cmd/util"
	"gvisor.dev/gvisor/runsc/gvisorbinaries"

	_ "brig/tools/runsc/prefilter/sentry"
)

func main() {
	// gVisor sets it again once it has booted; until then more threads would but wait for
	// one another, at each of the forty system calls that go to all threads at once.
	runtime.GOMAXPROCS(1)
	cli.Run(&gvisorbinaries.GvisorSentry, map[util.SubCommand]string{
		new(sentrycmd.Boot):   "internal use only",
		new(sentrycmd.Umount): "internal use only",
	}, nil)
}
