package names

import (
	"context"
	"errors"
	"fmt"
	"time"

	"brig/internal/config"
	"brig/internal/netpolicy/nft"
	"brig/internal/transit"
	"brig/nodeagent/resolver"
)

// pins puts addresses into the kernel's sets, under the node's network lock: then no
// policy can change between the look at its generation and the pin. Many questions share
// one turn with the lock, and between turns it is left to others for as long as it was
// held: sandboxes that ask a lot do not keep the node from connecting new ones.
type pins struct {
	cfg *config.Config
	// repair brings rules in order that somebody has changed.
	repair  func(context.Context) error
	waiting chan request
}

type request struct {
	gone       <-chan struct{} // closed once nobody waits for the answer
	link       string
	generation uint64
	pins       []nft.Pin
	done       chan<- error
}

const (
	maxTurn     = 64 // requests
	turnTimeout = 3 * time.Second
)

func newPins(cfg *config.Config, repair func(context.Context) error) *pins {
	return &pins{cfg: cfg, repair: repair, waiting: make(chan request)}
}

// Pin returns once the pins are in force.
func (p *pins) Pin(ctx context.Context, link string, generation uint64, list []resolver.Pin) error {
	done := make(chan error, 1)
	r := request{gone: ctx.Done(), link: link, generation: generation, done: done}
	for _, pin := range list {
		r.pins = append(r.pins, nft.Pin{Addr: pin.Addr, Port: pin.Port, TTL: pin.TTL})
	}
	select {
	case p.waiting <- r:
	case <-ctx.Done():
		return fmt.Errorf("wait for a turn with the network lock: %w", context.Cause(ctx))
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// work serves requests until ctx ends.
func (p *pins) work(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case r := <-p.waiting:
			begun := time.Now()
			p.serve(ctx, p.more(r))
			select {
			case <-ctx.Done():
			case <-time.After(time.Since(begun)):
			}
		}
	}
}

// more are the requests that wait already.
func (p *pins) more(first request) []request {
	list := []request{first}
	for len(list) < maxTurn {
		select {
		case r := <-p.waiting:
			list = append(list, r)
		default:
			return list
		}
	}
	return list
}

// serve answers every request. Rules that somebody has changed are brought in order, and
// what failed for that is tried once more.
func (p *pins) serve(ctx context.Context, list []request) {
	ctx, cancel := context.WithTimeout(ctx, turnTimeout)
	defer cancel()
	list = p.turn(ctx, list, nft.ErrTampered)
	if len(list) == 0 {
		return
	}
	if err := p.repair(ctx); err != nil {
		for _, r := range list {
			r.done <- err
		}
		return
	}
	p.turn(ctx, list, nil)
}

// turn answers the requests under the lock, and returns those that failed for later.
func (p *pins) turn(ctx context.Context, list []request, later error) (left []request) {
	answered := 0
	err := transit.Locked(ctx, p.cfg, func(context.Context) error {
		rules := transit.Rules(p.cfg)
		for _, r := range list {
			err := r.pin(rules)
			if later != nil && errors.Is(err, later) {
				left = append(left, r)
			} else {
				r.done <- err
			}
			answered++
		}
		return nil
	})
	for _, r := range list[answered:] {
		r.done <- err
	}
	return left
}

var (
	errChanged = errors.New("the policy has changed since the question was asked")
	errGone    = errors.New("nobody waits for the answer")
)

func (r request) pin(rules nft.Rules) error {
	select {
	case <-r.gone:
		return errGone
	default:
	}
	seat, err := rules.Book().Get(r.link)
	if err != nil {
		return err
	}
	if grant := seat.InForce(transit.Now()); grant == nil || grant.Generation != r.generation {
		return errChanged
	}
	return rules.Pin(r.link, r.generation, r.pins)
}
