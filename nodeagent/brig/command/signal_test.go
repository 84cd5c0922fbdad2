package command_test

import (
	"os"
	"os/signal"
	"time"

	"golang.org/x/sys/unix"
)

// keepSending sends sig to this process until heard is closed. It takes the
// signal itself, too, so that one that comes too early kills nobody.
func keepSending(sig unix.Signal, heard <-chan struct{}) {
	mine := make(chan os.Signal, 1)
	signal.Notify(mine, sig)
	defer signal.Stop(mine)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		_ = unix.Kill(os.Getpid(), sig)
		select {
		case <-heard:
			return
		case <-tick.C:
		}
	}
}
