package transit

import (
	"context"
	"errors"
	"testing"
	"time"

	"brig/internal/netns"
)

func TestWatch(t *testing.T) {
	inHost(t, func(t *testing.T) {
		cfg := testNode(t, "tst9")
		ensured(t, cfg)
		defer removed(t, cfg)
		ctx, cancel := context.WithCancel(t.Context())
		changed, ended := make(chan struct{}, 100), make(chan error, 1)
		go func() { // whose thread is elsewhere
			ended <- netns.Do(netns.Path("brigtest-host"), func() error { return Watch(ctx, cfg, func() { changed <- struct{}{} }) })
		}()
		select {
		case <-changed: // it listens; what it did not hear the next look shows
		case <-time.After(10 * time.Second):
			t.Fatal("nobody is told to look once it listens")
		}
		for _, change := range [][]string{
			{"ip", "addr", "add", "203.0.113.99/24", "dev", "wan"},
			{"ip", "link", "set", "far", "down"},
			{"nft", "add", "table", "inet", "foreign"},
			{"ip", "netns", "exec", cfg.TransitName(), "nft", "add", "chain", "inet", "brig", "foreign"},
		} {
			command(t, change...)
			select {
			case <-changed:
			case <-time.After(5 * time.Second):
				t.Errorf("%v is not noticed", change)
			}
			time.Sleep(2 * settleTime)
			for len(changed) > 0 {
				<-changed
			}
		}
		command(t, "nft", "delete", "table", "inet", "foreign")
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("it ended with %v", err)
		}
	})
}
