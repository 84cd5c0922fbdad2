package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"time"
)

// variant is one way to do what a measure measures.
type variant struct {
	name string
	// ours is set on brig's ways, which are compared with the others.
	ours bool
	// once does it once and returns how long the part that counts took. What it
	// makes it removes before it returns, outside the time measured.
	once once
}

type once func(ctx context.Context) (time.Duration, error)

// making makes something and returns how long the part that counts took, and what removes
// it, which is never nil.
type making func(ctx context.Context) (took time.Duration, remove func() error, err error)

func (m making) once(ctx context.Context) (time.Duration, error) {
	took, remove, err := m(ctx)
	return took, errors.Join(err, remove())
}

// nothing is made of what failed.
func nothing() error { return nil }

// source is one way to make sandboxes, ours or a peer's.
type source struct {
	name string
	ours bool
	make making
	// refill brings back what it takes of, which is in a rate and in no time of one; nil:
	// it takes of nothing.
	refill func(context.Context) error
}

// settled refills a source, if there is something to refill.
func (x source) settled(ctx context.Context) error {
	if x.refill == nil {
		return nil
	}
	return x.refill(context.WithoutCancel(ctx))
}

// once makes one, removes it, and refills the source.
func (x source) once(ctx context.Context) (time.Duration, error) {
	took, err := x.make.once(ctx)
	return took, errors.Join(err, x.settled(ctx))
}

// measure is a question asked of several variants.
type measure struct {
	name     string
	variants []variant
	// unit of the samples; zero is a millisecond.
	unit time.Duration
}

// series is what one variant of a measure yielded.
type series struct {
	measure  string
	variant  string
	unit     string
	ours     bool
	samples  []float64
	failures []error
}

func (s series) label() string { return label(s.measure, s.variant) }

// String is the variant with its median.
func (s series) String() string {
	return strings.TrimSpace(fmt.Sprintf("%s: %s %s", s.variant, number(median(s.samples)), s.unit))
}

// add a sample, or why there is none.
func (s *series) add(sample float64, err error) {
	if err != nil {
		s.failures = append(s.failures, err)
		return
	}
	s.samples = append(s.samples, sample)
}

// run does rounds of every variant after one round that is not counted: it loads
// what the later ones find in the page cache.
func (m measure) run(ctx context.Context, rng *rand.Rand, rounds int, progress io.Writer) ([]series, error) {
	all := make([]series, len(m.variants))
	unit := cmp.Or(m.unit, time.Millisecond)
	for i, v := range m.variants {
		all[i] = series{measure: m.name, variant: v.name, unit: strings.TrimPrefix(unit.String(), "1"), ours: v.ours}
	}
	err := interleave(ctx, rng, len(all), 1+rounds, m.name, progress, func(i, round int) {
		took, err := m.variants[i].once(ctx)
		all[i].take(round, took, unit, err)
	})
	return all, err
}

// take what a round yielded, unless it is the first.
func (s *series) take(round int, took, unit time.Duration, err error) {
	switch {
	case round == 0:
	case err != nil:
		s.failures = append(s.failures, err)
	default:
		s.samples = append(s.samples, float64(took)/float64(unit))
	}
}

// interleave calls do for each of n variants in each round, in an order shuffled anew
// in each round.
func interleave(ctx context.Context, rng *rand.Rand, n, rounds int, name string, progress io.Writer, do func(variant, round int)) error {
	for round := range rounds {
		for _, i := range rng.Perm(n) {
			if err := ctx.Err(); err != nil {
				return err
			}
			do(i, round)
		}
		fmt.Fprintf(progress, "\r%s: %d of %d", name, round+1, rounds)
	}
	fmt.Fprintln(progress)
	return nil
}
