package main

import (
	"os"
	"runtime"

	"gvisor.dev/gvisor/runsc/cgroup"
	"gvisor.dev/gvisor/runsc/specutils"
)

// joinEnv is "thread" where a runsc is to move its main thread alone into the groups of a
// sandbox that it then starts processes in. The kernel lets a thread of its own accord do so
// at once, on cgroup v1; before it moves a whole process it waits until no other is being
// made or ending, some ten milliseconds.
//
// An environment variable, for gVisor's own runsc, which moves itself as ever.
const joinEnv = "BRIG_JOIN"

// Every command is carried out, and gofers, sentries and helpers are started, by the goroutine
// that calls init and main, on this thread: what it starts is born where the thread is.
func init() {
	if os.Getenv(joinEnv) == "thread" && os.Unsetenv(joinEnv) == nil {
		runtime.LockOSThread()
		cgroup.JoinFile, specutils.OnItsThread = "tasks", true
	}
}
