// Package events delivers a shim's events to containerd, in order, each at least
// once, unless containerd refuses it. While containerd is away they wait in a queue of
// bounded length: a shim neither ends nor blocks because nobody listens. Past the bound
// the oldest are dropped; containerd, when it is back, asks each task for its state
// anyway.
package events

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/containerd/containerd/api/services/ttrpc/events/v1"
	"github.com/containerd/containerd/api/types"
	"github.com/containerd/containerd/v2/pkg/protobuf"
	"github.com/containerd/containerd/v2/pkg/ttrpcutil"
	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"github.com/containerd/typeurl/v2"
)

const (
	capacity   = 4096
	sendTime   = 5 * time.Second
	maxBackoff = 5 * time.Second
)

// Send delivers one event, or fails.
type Send func(context.Context, *types.Envelope) error

// Queue of events to be sent. It is safe for concurrent use.
type Queue struct {
	namespace string
	send      Send
	log       *slog.Logger
	wake      chan struct{} // has room for one: there is something to do
	idle      chan struct{} // closed by the worker when it ends
	given     chan struct{} // closed when Close has given up

	mu      sync.Mutex
	waiting []*types.Envelope // the first is being sent
	closing bool
}

// Containerd sends to the TTRPC socket at address.
func Containerd(address string) (Send, error) {
	client, err := ttrpcutil.NewClient(address)
	if err != nil {
		return nil, fmt.Errorf("events: %w", err)
	}
	return func(ctx context.Context, e *types.Envelope) error {
		ctx, cancel := context.WithTimeout(ctx, sendTime)
		defer cancel()
		service, err := client.EventsService()
		if err == nil {
			_, err = service.Forward(ctx, &events.ForwardRequest{Envelope: e})
		}
		if err != nil {
			_ = client.Reconnect() // the next attempt meets its error again
		}
		return errgrpc.ToNative(err)
	}, nil
}

// New starts a queue for events of a containerd namespace.
func New(namespace string, send Send, log *slog.Logger) *Queue {
	q := &Queue{namespace: namespace, send: send, log: log, wake: make(chan struct{}, 1), idle: make(chan struct{}), given: make(chan struct{})}
	go q.work()
	return q
}

// Emit queues an event. It does not block.
func (q *Queue) Emit(topic string, event any) {
	body, err := typeurl.MarshalAnyToProto(event)
	if err != nil {
		q.log.Error("an event cannot be encoded", "topic", topic, "err", err)
		return
	}
	e := &types.Envelope{Timestamp: protobuf.ToTimestamp(time.Now()), Namespace: q.namespace, Topic: topic, Event: body}
	q.mu.Lock()
	q.waiting = append(q.waiting, e)
	if len(q.waiting) > capacity {
		q.log.Error("an event is dropped, containerd is away", "topic", q.waiting[1].Topic)
		q.waiting = append(q.waiting[:1], q.waiting[2:]...)
	}
	q.mu.Unlock()
	q.poke()
}

// Close waits until the queue is empty or ctx has ended, and stops. It is called once.
func (q *Queue) Close(ctx context.Context) error {
	q.mu.Lock()
	q.closing = true
	q.mu.Unlock()
	q.poke()
	select {
	case <-q.idle:
		return nil
	case <-ctx.Done():
		close(q.given)
		return fmt.Errorf("deliver the last events: %w", context.Cause(ctx))
	}
}

func (q *Queue) poke() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

func (q *Queue) work() {
	defer close(q.idle)
	for {
		e, closing := q.first()
		if e == nil && closing {
			return
		}
		if e == nil {
			<-q.wake
			continue
		}
		if !q.deliver(e) {
			return
		}
		q.mu.Lock()
		q.waiting = q.waiting[1:]
		q.mu.Unlock()
	}
}

func (q *Queue) first() (e *types.Envelope, closing bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.waiting) > 0 {
		e = q.waiting[0]
	}
	return e, q.closing
}

// deliver is false when Close has given up. An event that containerd refuses for what it
// is goes, so that it does not hold up all that follow.
func (q *Queue) deliver(e *types.Envelope) bool {
	for backoff := 50 * time.Millisecond; ; backoff = min(2*backoff, maxBackoff) {
		err := q.send(context.Background(), e)
		if err == nil {
			return true
		}
		if errdefs.IsInvalidArgument(err) || errdefs.IsResourceExhausted(err) {
			q.log.Error("an event is dropped, containerd refuses it", "topic", e.Topic, "err", err)
			return true
		}
		q.log.Warn("an event is not delivered yet", "topic", e.Topic, "err", err)
		select {
		case <-time.After(backoff):
		case <-q.given:
			return false
		}
	}
}
