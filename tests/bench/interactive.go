package main

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// boardWays are how sandboxes are made for the boards.
var boardWays = []string{"sequential", "staggered", "burst"}

// interactive is the name of the measure of one of them.
func interactive(how string) string { return "time to interactive, " + how }

// untilLast is how long a whole burst took.
const untilLast = "burst, until the last is interactive"

// staggerEvery is how long after one request the next is sent, whatever became of it.
const staggerEvery = 200 * time.Millisecond

// measureInteractive takes the time from asking for a sandbox until a first command has
// been run in it, of o.burst sandboxes: made and removed one after the other, one every
// so often, and all at once. Of the last two they stay until all were there. A pool is
// full when each begins, and whoever finds it empty has to wait.
func measureInteractive(ctx context.Context, s *session, o options) (all []series, err error) {
	sources, err := s.interactiveSources(ctx)
	if err != nil {
		return nil, err
	}
	ways := map[string]func(context.Context, source, int) []sample{"sequential": sequentially, "staggered": staggered, "burst": atOnceAll}
	for _, how := range boardWays {
		for _, i := range s.rng.Perm(len(sources)) {
			x := sources[i]
			if err := x.settled(ctx); err != nil {
				return all, err
			}
			fmt.Fprintf(s.progress, "%s: %s\n", interactive(how), x.name)
			began := time.Now()
			one := series{measure: interactive(how), variant: x.name, unit: "ms", ours: x.ours}
			last := series{measure: untilLast, variant: x.name, unit: "ms", ours: x.ours}
			var latest time.Time
			for _, m := range ways[how](ctx, x, o.burst) {
				one.add(float64(m.took)/1e6, m.err)
				if m.at.After(latest) {
					latest = m.at
				}
			}
			all = append(all, one)
			if how == "burst" && len(one.failures) == 0 {
				last.add(float64(latest.Sub(began))/1e6, nil)
				all = append(all, last)
			}
			if ctx.Err() != nil {
				return all, context.Cause(ctx)
			}
		}
	}
	return all, nil
}

// interactiveSources make sandboxes in which a first command has been run.
func (s *session) interactiveSources(ctx context.Context) ([]source, error) {
	all, err := s.everyWay(ctx, (*testNode).createAndExec, (*testNode).agentCreateAndExec)
	if err != nil {
		return nil, err
	}
	return s.withInteractivePool(ctx, all)
}

// createAndExec makes an idle sandbox and runs a program in it.
func (n *testNode) createAndExec(r shimRuntime) making {
	return func(ctx context.Context) (time.Duration, func() error, error) {
		began := time.Now()
		task, remove, err := n.idle(ctx, r)
		if err != nil {
			return 0, nothing, err
		}
		_, err = n.execRoundTrip(benchNamespace, task)(ctx)
		return time.Since(began), remove, err
	}
}

func (n *testNode) agentCreateAndExec(ctx context.Context) (time.Duration, func() error, error) {
	began := time.Now()
	id, err := n.agentIdle(ctx)
	if err != nil {
		return 0, nothing, err
	}
	_, err = n.agentExec(id)(ctx)
	return time.Since(began), func() error { return n.removeSandbox(context.WithoutCancel(ctx), id) }, err
}

// sample of one sandbox of several.
type sample struct {
	took time.Duration
	at   time.Time // when it was there
	err  error
}

func sequentially(ctx context.Context, x source, count int) []sample {
	all := make([]sample, count)
	for i := range all {
		all[i].took, all[i].err = x.make.once(ctx)
		all[i].at = time.Now()
	}
	return all
}

func staggered(ctx context.Context, x source, count int) []sample {
	return together(ctx, x, count, staggerEvery)
}

func atOnceAll(ctx context.Context, x source, count int) []sample { return together(ctx, x, count, 0) }

// together makes one sandbox every so often and removes all of them when the last one is
// there.
func together(ctx context.Context, x source, count int, every time.Duration) []sample {
	all, removes := make([]sample, count), make([]func() error, count)
	var group sync.WaitGroup
	for i := range all {
		group.Go(func() {
			all[i].took, removes[i], all[i].err = x.make(ctx)
			all[i].at = time.Now()
		})
		time.Sleep(every)
	}
	group.Wait()
	left := make(chan int, count)
	for i := range all {
		left <- i
	}
	close(left)
	for range atOnce {
		group.Go(func() {
			for i := range left {
				if err := removes[i](); err != nil {
					all[i].err = err
				}
			}
		})
	}
	group.Wait()
	return all
}
