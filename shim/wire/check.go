package wire

import (
	"fmt"
	"math"
	"path/filepath"
	"strings"

	"github.com/containerd/containerd/v2/pkg/identifiers"
	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// Ids, and the path of a bundle, become paths of the host and arguments of programs. containerd
// has checked them; whoever else speaks to the socket has not.

// checkName of a container, a pod or an exec.
func checkName(what, id string) error {
	if err := identifiers.Validate(id); err != nil { // it repeats the id, which may be long
		return fmt.Errorf("%s id %.80q: use at most 76 of [A-Za-z0-9], with single [._-] between them: %w", what, id, errdefs.ErrInvalidArgument)
	}
	return nil
}

func checkBundle(path string) error {
	if !filepath.IsAbs(path) || filepath.Clean(path) != path || path == "/" || strings.ContainsRune(path, 0) {
		return fmt.Errorf("bundle %.80q: want a clean absolute path: %w", path, errdefs.ErrInvalidArgument)
	}
	return nil
}

// lastSignal of Linux, SIGRTMAX.
const lastSignal = 64

// signal refuses what no process could get. 0 is none, and asks whether the process is there.
func signal(number uint32) (unix.Signal, error) {
	if number > lastSignal {
		return 0, fmt.Errorf("signal %d: there are signals up to %d: %w", number, lastSignal, errdefs.ErrInvalidArgument)
	}
	return unix.Signal(number), nil
}

// size of a terminal.
func size(columns, rows uint32) (width, height uint16, err error) {
	if columns > math.MaxUint16 || rows > math.MaxUint16 {
		return 0, 0, fmt.Errorf("a terminal of %d by %d: a side has at most %d: %w", columns, rows, math.MaxUint16, errdefs.ErrInvalidArgument)
	}
	return uint16(columns), uint16(rows), nil
}
