package shim

import (
	"errors"
	"fmt"
	"os"

	"github.com/containerd/errdefs"
	"github.com/containerd/log"
	"golang.org/x/sys/unix"
)

// logPipe, in the bundle, is what containerd reads what a shim says from. It holds the
// other end from before the start verb.
const logPipe = "log"

// openLog opens the pipe for the server that is about to be started, whose stderr it is. A
// pipe without a reader is a caller that went away, and an error: a server that opened it
// itself, as those of containerd's package do, would wait for a reader for ever, hold its
// socket, and heed no signal.
func openLog() (*os.File, error) {
	fd, err := unix.Open(logPipe, unix.O_WRONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENXIO) {
		return nil, fmt.Errorf("nobody reads what the shim says, its caller has gone: %w", errdefs.ErrUnavailable)
	}
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", logPipe, err)
	}
	if err := unix.SetNonblock(fd, false); err != nil { // nothing may get lost of what is said
		return nil, errors.Join(fmt.Errorf("open %s: %w", logPipe, err), unix.Close(fd))
	}
	return os.NewFile(uintptr(fd), logPipe), nil
}

// setLog has containerd's packages say, in the server, what its caller wants to hear.
func setLog(debug bool) error {
	if debug {
		if err := log.SetLevel("debug"); err != nil {
			return err
		}
	}
	return log.SetFormat(log.TextFormat)
}
