package denials

import (
	"context"
	"errors"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Place is where the rules stand: a network namespace that can be made anew, with
// which a socket would hear nothing more, and without any error.
type Place interface {
	// Identity changes when the place is another one.
	Identity() (string, error)
	// Do runs fn on a thread of the place, for the sockets that it makes.
	Do(fn func() error) error
}

// lookEvery is how soon another place is noticed.
const lookEvery = 2 * time.Second

var errMoved = errors.New("the network namespace is another one")

// Keep listens in place until ctx ends, and begins anew whenever the place is another
// one or listening broke.
func (w *Watcher) Keep(ctx context.Context, place Place) {
	done := make(chan struct{})
	go func() { defer close(done); w.collapse(ctx) }()
	defer func() { <-done }()
	for ctx.Err() == nil {
		if err := w.listen(ctx, place); err != nil && ctx.Err() == nil {
			w.cfg.Log.Warn("the reader of denials begins anew", "err", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(lookEvery):
		}
	}
}

func (w *Watcher) listen(ctx context.Context, place Place) error {
	here, err := place.Identity()
	if err != nil {
		return err
	}
	var conn *netlink.Conn
	links := &links{}
	if err := place.Do(func() (err error) {
		if conn, err = open(); err != nil {
			return err
		}
		return links.open()
	}); err != nil {
		if conn != nil {
			err = errors.Join(err, conn.Close())
		}
		return err
	}
	defer links.close()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go watch(ctx, cancel, place, here)
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer func() {
		if stop() {
			_ = conn.Close()
		}
	}()
	err = w.read(conn, links)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// read takes what the kernel logs until the socket breaks.
func (w *Watcher) read(conn *netlink.Conn, links *links) error {
	for {
		messages, err := conn.Receive()
		if errors.Is(err, unix.ENOBUFS) {
			// The kernel had more than the buffer holds; what follows is whole again.
			if w.cfg.Lost != nil {
				w.cfg.Lost()
			}
			continue
		}
		if err != nil {
			return err
		}
		for _, m := range messages {
			if l, ok := parse(m); ok {
				w.take(Denial{At: time.Now(), Link: links.name(l.device), Reason: l.reason, Flow: decode(l.packet), Count: 1})
			}
		}
	}
}

func watch(ctx context.Context, cancel context.CancelCauseFunc, place Place, here string) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			// By the sockets alone a removed namespace would live on, with its links.
			if now, err := place.Identity(); err != nil || now != here {
				cancel(errMoved)
				return
			}
		}
	}
}
