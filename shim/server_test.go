package shim

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestEndOfAnUnusedShim: one that has a sandbox now and then stays.
func TestEndOfAnUnusedShim(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var used atomic.Bool
		began, ended := time.Now(), make(chan time.Duration, 1)
		go endUnused(t.Context(), func() bool { return !used.Load() }, func() { ended <- time.Since(began) })
		time.Sleep(unusedTime + time.Second)
		used.Store(true)
		time.Sleep(10 * unusedTime)
		used.Store(false)
		if took := <-ended; took < 12*unusedTime || took > 13*unusedTime {
			t.Errorf("ended after %v", took)
		}
	})
}
