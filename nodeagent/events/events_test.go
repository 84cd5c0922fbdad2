package events

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
)

func listen(t *testing.T, h *Hub, f Filter) *Listener {
	t.Helper()
	l, err := h.Listen(f)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	return l
}

// generations drains what a listener has.
func generations(t *testing.T, l *Listener) (got []uint64) {
	t.Helper()
	ctx, cancel := context.WithCancelCause(t.Context())
	enough := errors.New("enough")
	cancel(enough)
	for {
		e, err := l.Next(ctx)
		if errors.Is(err, enough) {
			return got
		}
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case e.Missed > 0:
			got = append(got, 1000+e.Missed)
		default:
			got = append(got, e.Policy.Generation)
		}
	}
}

func TestWhoHearsWhat(t *testing.T) {
	h := NewHub()
	h.Publish(Event{Sandbox: "sb-a", Owner: 1000, Policy: &Policy{Generation: 9}}) // nobody listens yet
	mine, one, others, all := listen(t, h, Filter{UID: 1000}), listen(t, h, Filter{UID: 1000, Sandbox: "sb-a"}), listen(t, h, Filter{UID: 1001}), listen(t, h, Filter{})
	h.Publish(Event{Sandbox: "sb-a", Owner: 1000, Policy: &Policy{Generation: 1}})
	h.Publish(Event{Sandbox: "sb-b", Owner: 1000, Policy: &Policy{Generation: 2}})
	h.Publish(Event{Sandbox: "sb-c", Owner: 1001, Policy: &Policy{Generation: 3}})
	h.Publish(Event{Owner: 1000, Policy: &Policy{Generation: 4}}) // nobody's
	for _, tc := range []struct {
		who  string
		l    *Listener
		want []uint64
	}{{"owner", mine, []uint64{1, 2}}, {"owner of one", one, []uint64{1}}, {"another uid", others, []uint64{3}}, {"root", all, []uint64{1, 2, 3, 4}}} {
		if diff := cmp.Diff(tc.want, generations(t, tc.l)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tc.who, diff)
		}
	}
	mine.Close()
	h.Publish(Event{Sandbox: "sb-a", Owner: 1000, Policy: &Policy{Generation: 5}})
	if got := generations(t, mine); len(got) != 0 {
		t.Errorf("closed, it hears %v", got)
	}
}

// A listener that does not read holds nobody up, and learns what it lost.
func TestASlowListener(t *testing.T) {
	h := NewHub()
	l := listen(t, h, Filter{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range ring + 5 {
			h.Publish(Event{Sandbox: "sb-a", Policy: &Policy{Generation: uint64(i)}})
		}
	}()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Fatal("publishing waits for a listener")
	}
	got := generations(t, l)
	if len(got) != ring+1 || got[0] != 1005 || got[1] != 5 || got[ring] != ring+4 {
		t.Errorf("%d events, %v…", len(got), got[:min(3, len(got))])
	}
}

func TestNextWaits(t *testing.T) {
	h := NewHub()
	l := listen(t, h, Filter{})
	go h.Publish(Event{Sandbox: "sb-a", Policy: &Policy{Generation: 7}})
	if e, err := l.Next(t.Context()); err != nil || e.Policy.Generation != 7 || e.At.IsZero() {
		t.Errorf("%+v, %v", e, err)
	}
}

func TestListenersAreBounded(t *testing.T) {
	h := NewHub()
	for range maxOfOne {
		listen(t, h, Filter{UID: 1000})
	}
	if _, err := h.Listen(Filter{UID: 1000}); !errdefs.IsResourceExhausted(err) {
		t.Errorf("one more: %v; want an ErrResourceExhausted", err)
	}
	for uid := uint32(2000); len(h.listeners) < maxListeners; uid++ {
		listen(t, h, Filter{UID: uid})
	}
	if _, err := h.Listen(Filter{UID: 3000}); !errdefs.IsResourceExhausted(err) {
		t.Errorf("of all: %v; want an ErrResourceExhausted", err)
	}
}
