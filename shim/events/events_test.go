package events

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/containerd/containerd/api/events"
	"github.com/containerd/containerd/api/types"
	"github.com/containerd/errdefs"
)

// listener is a containerd that can go away.
type listener struct {
	away atomic.Bool
	got  []string
}

func (l *listener) send(_ context.Context, e *types.Envelope) error {
	if l.away.Load() {
		return errors.New("nobody there")
	}
	l.got = append(l.got, e.Topic)
	return nil
}

func TestEventsOutliveAListenersAbsence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := new(listener)
		l.away.Store(true)
		q := New("ns", l.send, slog.New(slog.DiscardHandler))
		for _, topic := range []string{"a", "b", "c"} {
			q.Emit(topic, &events.TaskStart{})
		}
		time.Sleep(time.Hour)
		l.away.Store(false)
		q.Emit("d", &events.TaskStart{})
		if err := q.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if want := []string{"a", "b", "c", "d"}; !slices.Equal(l.got, want) {
			t.Errorf("got %v, want %v", l.got, want)
		}
	})
}

func TestTheQueueIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := new(listener)
		l.away.Store(true)
		q := New("ns", l.send, slog.New(slog.DiscardHandler))
		for range capacity + 10 {
			q.Emit("x", &events.TaskStart{})
		}
		q.Emit("last", &events.TaskStart{})
		l.away.Store(false)
		q.Close(t.Context())
		if len(l.got) != capacity || l.got[capacity-1] != "last" {
			t.Errorf("%d delivered, the last is %s", len(l.got), l.got[len(l.got)-1])
		}
	})
}

func TestARefusedEventHoldsUpNone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var got []string
		send := func(_ context.Context, e *types.Envelope) error {
			if e.Topic == "bad" {
				return errdefs.ErrInvalidArgument
			}
			got = append(got, e.Topic)
			return nil
		}
		q := New("ns", send, slog.New(slog.DiscardHandler))
		for _, topic := range []string{"a", "bad", "b"} {
			q.Emit(topic, &events.TaskStart{})
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := q.Close(ctx); err != nil || !slices.Equal(got, []string{"a", "b"}) {
			t.Errorf("got %v, %v", got, err)
		}
	})
}

func TestCloseGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := new(listener)
		l.away.Store(true)
		q := New("ns", l.send, slog.New(slog.DiscardHandler))
		q.Emit("a", &events.TaskStart{})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := q.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		<-q.idle
	})
}
