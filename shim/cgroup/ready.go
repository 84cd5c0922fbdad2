package cgroup

import (
	"os"
	"path/filepath"
	"time"
)

// graceTime is less than it takes the kernel to forget that processes are moved.
const graceTime = 4 * time.Millisecond

// ReadyToMove keeps the kernel ready to move processes between groups until stop is
// called. On cgroup v1 the first move waits for an RCU grace period, some 15 ms, and
// those that follow it closely do not; runsc create moves itself twice. So while it
// and what precedes it run, this process keeps on moving itself to where it is.
//
// On v2 runsc's children are born in their group, and nothing is done. Nor is it an
// error where it cannot be done: a create is slower then.
func ReadyToMove() (stop func()) {
	done := make(chan struct{})
	if own, err := locate("self", ""); err == nil && !own.Unified() {
		go own.move(done)
	}
	return func() { close(done) }
}

func (g Group) move(done chan struct{}) {
	f, err := os.OpenFile(filepath.Join(g.folders["memory"], "cgroup.procs"), os.O_WRONLY, 0)
	if err != nil {
		return
	}
	defer f.Close()
	tick := time.NewTicker(graceTime)
	defer tick.Stop()
	for {
		if _, err := f.WriteString("0"); err != nil {
			return
		}
		select {
		case <-done:
			return
		case <-tick.C:
		}
	}
}
