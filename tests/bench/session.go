package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"time"
)

// session is one run: what its measures share, each made when the first of them wants it.
type session struct {
	o        options
	rng      *rand.Rand
	progress io.Writer

	made      map[string]*testNode
	networked *networks
}

// node with brig as it comes, which is where the peers are, too.
func (s *session) node(ctx context.Context) (*testNode, error) {
	return s.startOnce(ctx, nodeSpec{name: "node"})
}

func (s *session) startOnce(ctx context.Context, spec nodeSpec) (*testNode, error) {
	if n := s.made[spec.name]; n != nil {
		return n, nil
	}
	n, err := startNode(ctx, s.o, spec)
	if s.made == nil {
		s.made = map[string]*testNode{}
	}
	s.made[spec.name] = n // to be closed, whole or not
	return n, err
}

func (s *session) networks() *networks {
	if s.networked == nil {
		s.networked = &networks{o: s.o, progress: s.progress}
	}
	return s.networked
}

// close removes everything.
func (s *session) close() error {
	var errs []error
	for _, n := range s.made {
		errs = append(errs, n.close())
	}
	if s.networked != nil {
		errs = append(errs, s.networked.close())
	}
	return errors.Join(errs...)
}

// run measures what the options want. A measure that fails is told, and the next one is
// taken; what it had by then is in the report, and so it is when ctx ends.
func (s *session) run(ctx context.Context, r *report) error {
	wanted := slices.DeleteFunc(table(s.o), func(m entry) bool { return !s.o.wants(m.name) })
	for _, m := range wanted {
		for _, c := range m.claims {
			c.of = cmp.Or(c.of, m.name)
			r.claims = append(r.claims, c)
		}
	}
	for _, m := range wanted {
		o := s.o
		o.rounds = o.roundsOf(m)
		began := time.Now()
		all, err := m.run(ctx, s, o)
		r.add(s.rng, all)
		r.Took = append(r.Took, took{m.name, time.Since(began).Seconds()})
		switch {
		case ctx.Err() != nil:
			return errors.Join(context.Cause(ctx), err)
		case err != nil:
			r.Errors = append(r.Errors, fmt.Sprintf("%s: %v", m.name, err))
		}
	}
	return nil
}

// simple is a measure on a node, or one of its network, that needs nothing else.
type simple[on any] func(context.Context, on, options, *rand.Rand, io.Writer) ([]series, error)

func onNode(measure simple[*testNode]) measuring {
	return func(ctx context.Context, s *session, o options) ([]series, error) {
		n, err := s.node(ctx)
		if err != nil {
			return nil, err
		}
		return measure(ctx, n, o, s.rng, s.progress)
	}
}

func onNetworks(measure simple[*networks]) measuring {
	return func(ctx context.Context, s *session, o options) ([]series, error) {
		return measure(ctx, s.networks(), o, s.rng, s.progress)
	}
}
