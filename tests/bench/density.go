package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/containerd/containerd/v2/client"
	"golang.org/x/sync/errgroup"
)

// settle is how long what is there is left alone before it is looked at.
const settle = time.Second

// perGiB of memory is 1024 of a sandbox's MiB.
const perGiB = 1024

// idleSource makes an idle sandbox and tells the host's pid of its first process.
type idleSource struct {
	name string
	ours bool
	make func(context.Context) (pid int, remove func() error, err error)
}

func (n *testNode) idleSources() ([]idleSource, error) {
	runtimes, err := n.runtimes()
	if err != nil {
		return nil, err
	}
	var all []idleSource
	for _, r := range runtimes {
		all = append(all, idleSource{r.name, r.ours, func(ctx context.Context) (int, func() error, error) {
			task, remove, err := n.idle(ctx, r)
			if err != nil {
				return 0, nothing, err
			}
			return int(task.Pid()), remove, nil
		}})
	}
	return append(all, idleSource{throughAPI, true, func(ctx context.Context) (int, func() error, error) {
		var task client.Task
		_, task, remove, err := n.agentTask(ctx)
		if err != nil {
			return 0, nothing, err
		}
		return int(task.Pid()), remove, nil
	}}), nil
}

// measureDensity counts the processes of idle sandboxes and their share of memory, as
// their crowd grows. What several processes map counts by halves, thirds and so on (PSS),
// which is why the variants are never there at the same time: ours and a peer's have
// programs in common. What the kernel keeps for them is in the second figure, of what the
// machine has left.
func measureDensity(ctx context.Context, n *testNode, o options, rng *rand.Rand, progress io.Writer) ([]series, error) {
	sources, err := n.idleSources()
	if err != nil {
		return nil, err
	}
	found := make([][]series, len(sources))
	err = interleave(ctx, rng, len(sources), o.rounds, "idle sandboxes", progress, func(i, _ int) {
		all, err := crowd(ctx, sources[i], o.crowds, o.idle)
		if err != nil {
			all = append(all, series{measure: densityName("memory", o.crowds[len(o.crowds)-1]), variant: sources[i].name, ours: sources[i].ours, failures: []error{err}})
		}
		found[i] = append(found[i], all...)
	})
	return merge(slices.Concat(found...)), err
}

// merge the series of the same name, in the order of their measures.
func merge(all []series) (merged []series) {
	order := map[string]int{}
	for _, s := range all {
		if _, known := order[s.measure]; !known {
			order[s.measure] = len(order)
		}
		i := slices.IndexFunc(merged, func(m series) bool { return m.label() == s.label() })
		if i < 0 {
			merged = append(merged, s)
			continue
		}
		merged[i].samples, merged[i].failures = append(merged[i].samples, s.samples...), append(merged[i].failures, s.failures...)
	}
	slices.SortStableFunc(merged, func(a, b series) int { return order[a.measure] - order[b.measure] })
	return merged
}

// densityName of a measure of so many idle sandboxes.
func densityName(what string, of int) string {
	return fmt.Sprintf("an idle sandbox of %d: %s", of, what)
}

// crowd lets a crowd grow to each size, looks at it when its last has idled for a while, and
// removes it.
func crowd(ctx context.Context, x idleSource, sizes []int, idle time.Duration) (all []series, err error) {
	c := &crowded{source: x}
	defer func() { err = errors.Join(err, c.remove()) }()
	time.Sleep(settle)
	before, err := meminfo("MemAvailable")
	if err != nil {
		return nil, err
	}
	for _, size := range sizes {
		if err := c.grow(ctx, size); err != nil {
			return all, err
		}
		time.Sleep(idle)
		now, err := meminfo("MemAvailable")
		if err != nil {
			return all, err
		}
		looked, err := look(x, c.pids)
		if err != nil {
			return all, err
		}
		all = append(append(all, looked...), series{
			measure: densityName("memory no longer available", size), variant: x.name, ours: x.ours, unit: "MiB",
			samples: []float64{float64(before-now) / (1 << 20) / float64(size)},
		})
	}
	return all, nil
}

// crowded are idle sandboxes of one source.
type crowded struct {
	source idleSource

	mu      sync.Mutex // guards what follows
	pids    []int
	removes []func() error
}

// grow to a size.
func (c *crowded) grow(ctx context.Context, size int) error {
	var group errgroup.Group
	group.SetLimit(atOnce)
	for range size - len(c.pids) {
		group.Go(func() error {
			pid, remove, err := c.source.make(ctx)
			c.mu.Lock()
			defer c.mu.Unlock()
			c.pids, c.removes = append(c.pids, pid), append(c.removes, remove)
			return err
		})
	}
	return group.Wait()
}

func (c *crowded) remove() error {
	var group errgroup.Group
	group.SetLimit(atOnce)
	for _, remove := range c.removes {
		group.Go(remove)
	}
	return group.Wait()
}

// look at what each of the sandboxes costs.
func look(x idleSource, pids []int) ([]series, error) {
	of := func(what, unit string) series {
		return series{measure: densityName(what, len(pids)), variant: x.name, ours: x.ours, unit: unit}
	}
	processes, memory, fit := of("processes", ""), of("memory", "MiB"), of("fit into a GiB", "")
	classes := map[string]*series{}
	parents, err := processTable()
	if err != nil {
		return nil, err
	}
	for _, pid := range pids {
		f, err := footprintOf(parents, pid)
		if err != nil {
			return nil, err
		}
		mebibytes := float64(f.bytes()) / (1 << 20)
		processes.samples = append(processes.samples, float64(f.processes))
		memory.samples = append(memory.samples, mebibytes)
		fit.samples = append(fit.samples, perGiB/mebibytes)
		for class, bytes := range f.classes {
			if classes[class] == nil {
				classes[class] = &series{measure: densityName("memory by class", len(pids)), variant: x.name + ": " + class, unit: "MiB"}
			}
			classes[class].samples = append(classes[class].samples, float64(bytes)/(1<<20))
		}
	}
	all := []series{processes, memory, fit}
	for _, class := range classNames {
		if s := classes[class]; s != nil {
			all = append(all, *s)
		}
	}
	return all, nil
}

// densityClaims are of the largest crowd; smaller ones are in the table.
func densityClaims(o options) []claim {
	size := o.crowds[len(o.crowds)-1]
	memory, fit := densityName("memory", size), densityName("fit into a GiB", size)
	return []claim{
		{says: fmt.Sprintf("idle sandboxes per GiB, of %d", size), of: fit, ours: brigShim, peer: gvisorShim, must: atLeast(1.4)},
		{says: fmt.Sprintf("idle sandboxes per GiB, of %d, through brigd", size), of: fit, ours: throughAPI, peer: gvisorShim},
		{says: fmt.Sprintf("memory of an idle sandbox, of %d", size), of: memory, ours: brigShim, peer: gvisorShim},
		{says: fmt.Sprintf("memory of an idle sandbox, of %d", size), of: memory, ours: brigShim, peer: runcShim},
		{says: fmt.Sprintf("processes of an idle sandbox, of %d", size), of: densityName("processes", size), ours: brigShim, peer: gvisorShim},
	}
}
