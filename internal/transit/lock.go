package transit

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// flock runs fn while it holds the lock of a file or directory. Whoever waits stands in the
// kernel's queue: fifty that tried again every few milliseconds took the processors from
// the one that held the lock, until all of them gave up.
func flock(ctx context.Context, path string, flags int, fn func(context.Context) error) error {
	f, err := os.OpenFile(path, flags|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return fmt.Errorf("open the network lock: %w", err)
	}
	switch err := lock(f, unix.LOCK_EX|unix.LOCK_NB); {
	case err == nil:
		defer f.Close()
		return fn(ctx)
	case !errors.Is(err, unix.EWOULDBLOCK):
		f.Close()
		return fmt.Errorf("take the network lock: %w", err)
	}
	// flock knows no deadline: who gives up leaves a thread in the queue, which gives the
	// lock back when its turn comes.
	taken := make(chan error)
	go func() {
		err := lock(f, unix.LOCK_EX)
		select {
		case taken <- err:
		case <-ctx.Done():
			f.Close()
		}
	}()
	select {
	case <-ctx.Done():
		return fmt.Errorf("wait for the network lock: %w", context.Cause(ctx))
	case err := <-taken:
		defer f.Close()
		if err != nil {
			return fmt.Errorf("take the network lock: %w", err)
		}
		return fn(ctx)
	}
}

// lock goes on after signals.
func lock(f *os.File, how int) error {
	for {
		if err := unix.Flock(int(f.Fd()), how); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
