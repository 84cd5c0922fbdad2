package clock

import (
	"context"
	"time"
)

// Pause waits for d, and is false if ctx ended first. It goes by Go's timers, which stand
// still in a suspend: what must not be late looks at Now again and again.
func Pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
