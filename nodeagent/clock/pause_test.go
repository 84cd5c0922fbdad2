package clock

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

func TestPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		if !Pause(t.Context(), time.Hour) || time.Since(begin) != time.Hour {
			t.Errorf("an hour took %v", time.Since(begin))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if begin = time.Now(); Pause(ctx, time.Hour) || time.Since(begin) != time.Minute {
			t.Errorf("with a context of a minute it took %v", time.Since(begin))
		}
	})
}
