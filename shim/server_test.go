package shim

import (
	"os"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestEndOfAnUnusedShim: one that has a sandbox stays, one that nobody can reach does not.
func TestEndOfAnUnusedShim(t *testing.T) {
	for name, gone := range map[string]bool{"unused": false, "forgotten": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var used atomic.Bool
				used.Store(true)
				ended := make(chan time.Time, 1)
				go endUnused(t.Context(), func() bool { return !used.Load() }, func() bool { return gone }, func() { ended <- time.Now() })
				time.Sleep(time.Hour)
				used.Store(false)
				free, most := time.Now(), unusedTime+lookTime
				if gone {
					most = lookTime
				}
				if took := (<-ended).Sub(free); took > most || took < most-2*lookTime {
					t.Errorf("ended after %v, want %v", took, most)
				}
			})
		})
	}
}

func TestBundleIsGone(t *testing.T) {
	dir := t.TempDir() + "/bundle"
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	if bundleIsGone() {
		t.Error("gone before it was removed")
	}
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	if !bundleIsGone() {
		t.Error("there after it was removed")
	}
}
