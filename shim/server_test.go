package shim

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestEndOfAnUnusedShim: one that has a sandbox now and then stays.
func TestEndOfAnUnusedShim(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began, unused, ended := time.Now(), true, make(chan time.Duration, 1)
		go endUnused(t.Context(), func() bool { return unused }, func() { ended <- time.Since(began) })
		time.Sleep(unusedTime + time.Second)
		unused = false
		time.Sleep(10 * unusedTime)
		unused = true
		if took := <-ended; took < 12*unusedTime || took > 13*unusedTime {
			t.Errorf("ended after %v", took)
		}
	})
}
