package place

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// A server is ended when its place is another one, begun anew when it broke, and not
// begun where the place is not known.
func TestKeep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var where atomic.Value
		where.Store("one")
		identity := func() (string, error) {
			if w := where.Load().(string); w != "" {
				return w, nil
			}
			return "", errors.New("no such namespace")
		}
		var begun, moved atomic.Int32
		broken := make(chan error)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			Keep(ctx, identity, func(ctx context.Context) error {
				begun.Add(1)
				select {
				case <-ctx.Done():
					if errors.Is(context.Cause(ctx), errMoved) {
						moved.Add(1)
					}
					return context.Cause(ctx)
				case err := <-broken:
					return err
				}
			}, slog.New(slog.DiscardHandler))
		}()
		expect := func(what string, wantBegun, wantMoved int32) {
			t.Helper()
			time.Sleep(3 * lookEvery)
			synctest.Wait()
			if begun.Load() != wantBegun || moved.Load() != wantMoved {
				t.Errorf("%s: begun %d times, moved %d; want %d and %d", what, begun.Load(), moved.Load(), wantBegun, wantMoved)
			}
		}
		expect("at first", 1, 0)
		where.Store("two")
		expect("another place", 2, 1)
		broken <- errors.New("the socket broke")
		expect("broken", 3, 1)
		where.Store("")
		expect("no place: it goes on where it is", 3, 1)
		broken <- errors.New("the socket broke")
		expect("no place: it is not begun", 3, 1)
		where.Store("three")
		expect("a place again", 4, 1)
		cancel()
		<-done
	})
}
