// Package notify tells systemd how the daemon fares, if systemd started it. Without its
// socket in the environment everything here does nothing.
package notify

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// Ready says that the daemon serves.
func Ready() error { return send(daemon.SdNotifyReady) }

// Stopping says that the daemon ends in order.
func Stopping() error { return send(daemon.SdNotifyStopping) }

// Watchdog says that the daemon is alive for as long as alive finds it so, three times
// in each interval that systemd gave, until ctx ends. When alive fails or hangs nothing
// is said, and systemd ends the daemon once an interval is over.
func Watchdog(ctx context.Context, alive func(context.Context) error, log *slog.Logger) error {
	interval, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		return fmt.Errorf("read systemd's watchdog interval: %w", err)
	}
	if interval == 0 {
		return nil
	}
	tick := time.NewTicker(interval / 3)
	defer tick.Stop()
	for {
		look, cancel := context.WithTimeout(ctx, interval/3)
		err := alive(look)
		cancel()
		if err == nil {
			err = send(daemon.SdNotifyWatchdog)
		}
		if err != nil && ctx.Err() == nil {
			log.Error("the watchdog is not told that brigd is alive", "err", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

func send(state string) error {
	if _, err := daemon.SdNotify(false, state); err != nil {
		return fmt.Errorf("notify systemd: %w", err)
	}
	return nil
}
