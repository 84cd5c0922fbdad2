package doctor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"brig/internal/config"
)

// alone runs fn while no other run is under way on the node, and waits for its turn.
func alone(ctx context.Context, cfg *config.Config, fn func(context.Context) error) error {
	if os.Geteuid() != 0 {
		return errors.New("this looks at the node's network from below: run it as root")
	}
	path := filepath.Join(cfg.RunDir, "doctor.lock")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%s does not exist: no node runs by this configuration", cfg.RunDir)
	}
	if err != nil {
		return err
	}
	defer f.Close()
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return fn(ctx)
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("lock %s: %w", path, err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("another doctor is at work: %w", context.Cause(ctx))
		case <-time.After(100 * time.Millisecond):
		}
	}
}
