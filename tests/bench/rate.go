package main

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// execFor is how long execs are started for one sample of their rate.
const execFor = 500 * time.Millisecond

// saturating is how many do something at once, so that all cores have something to do
// while one waits.
func saturating() int { return 2 * runtime.NumCPU() }

// measureExecRate is how many programs a second can be run in one sandbox. More is
// better.
func measureExecRate(ctx context.Context, n *testNode, o options, rng *rand.Rand, progress io.Writer) (_ []series, err error) {
	variants, remove, err := n.execVariants(ctx)
	defer func() { err = errors.Join(err, remove()) }()
	if err != nil {
		return nil, err
	}
	all := make([]series, len(variants))
	for i, v := range variants {
		all[i] = series{measure: execRate, variant: v.name, unit: "/s", ours: v.ours}
	}
	err = interleave(ctx, rng, len(all), 1+o.rounds, execRate, progress, func(i, round int) {
		began := time.Now()
		count, err := crowdOf(saturating(), func() bool { return time.Since(began) < execFor }, func() error {
			_, err := variants[i].once(ctx)
			return err
		})
		if round > 0 {
			all[i].add(float64(count)/time.Since(began).Seconds(), err)
		}
	})
	return all, err
}

// measureRate is how many sandboxes a second can be made, heard of and removed; from a
// pool, until it is full again. More is better.
func measureRate(ctx context.Context, s *session, o options) ([]series, error) {
	sources, err := s.common(ctx)
	if err != nil {
		return nil, err
	}
	all := make([]series, len(sources))
	for i, x := range sources {
		all[i] = series{measure: lifeRate, variant: x.name, unit: "/s", ours: x.ours}
	}
	err = interleave(ctx, s.rng, len(all), o.rounds, lifeRate, s.progress, func(i, _ int) {
		var begun atomic.Int64
		began := time.Now()
		count, err := crowdOf(saturating(), func() bool { return begun.Add(1) <= int64(o.lives) }, func() error {
			_, err := sources[i].make.once(ctx)
			return err
		})
		err = errors.Join(err, sources[i].settled(ctx))
		all[i].add(float64(count)/time.Since(began).Seconds(), err)
	})
	return all, err
}

// crowdOf many do something again and again while they may, and returns how often they
// did.
func crowdOf(many int, may func() bool, do func() error) (count int, err error) {
	var (
		mu  sync.Mutex // guards count and err
		all sync.WaitGroup
	)
	for range many {
		all.Go(func() {
			for may() {
				e := do()
				mu.Lock()
				if e == nil {
					count++
				}
				err = errors.Join(err, e)
				mu.Unlock()
				if e != nil {
					return
				}
			}
		})
	}
	all.Wait()
	return count, err
}
