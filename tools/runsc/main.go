// Command runsc is gVisor's OCI runtime, built from the source that go.sum
// pins. It offers the commands that brig's shim and an operator at 3 a.m. use;
// the sentry itself is the sidecar gvisor-bin/gvisor_sentry, built from the
// folder gvisor_sentry. Upstream's own main also embeds a 47 MB checkpoint
// gofer, which is why this one exists.
package main

import (
	"runtime"

	"github.com/google/subcommands"
	"gvisor.dev/gvisor/runsc/cli"
	"gvisor.dev/gvisor/runsc/cmd"
	"gvisor.dev/gvisor/runsc/cmd/nvproxy"
	"gvisor.dev/gvisor/runsc/cmd/sentry/sentrycmd"
	"gvisor.dev/gvisor/runsc/cmd/util"

	_ "brig/tools/runsc/prefilter/gofer"
)

const (
	user     = ""
	helper   = "helpers"
	debug    = "debug"
	internal = "internal use only"
)

func main() {
	// Every command is short and does one thing after another; so does a gofer, whose
	// sandbox opens files by itself (directfs).
	runtime.GOMAXPROCS(1)
	takeCommand()
	serveLater()
	standBy()
	cli.Run(nil, map[util.SubCommand]string{
		new(cmd.Checkpoint):   user,
		new(create):           user,
		new(cmd.Delete):       user,
		new(cmd.Events):       user,
		new(cmd.Exec):         user,
		new(cmd.FSCheckpoint): user,
		new(cmd.Kill):         user,
		new(cmd.List):         user,
		new(cmd.PS):           user,
		new(cmd.Pause):        user,
		new(cmd.Restore):      user,
		new(cmd.Resume):       user,
		new(cmd.Run):          user,
		new(cmd.Spec):         user,
		new(cmd.Start):        user,
		new(cmd.State):        user,
		new(cmd.Tar):          user,
		new(cmd.Update):       user,
		new(cmd.Wait):         user,

		new(cmd.CPUFeatures): helper,
		new(cmd.Features):    helper,
		new(nvproxy.Nvproxy): helper,

		new(cmd.Debug):     debug,
		new(cmd.Statefile): debug,
		new(cmd.Usage):     debug,

		new(cmd.Gofer):        internal,
		new(sentrycmd.Boot):   internal,
		new(sentrycmd.Umount): internal,
	}, []subcommands.Command{new(cmd.Platforms), new(cmd.Syscalls)})
}
