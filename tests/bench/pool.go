package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"brig/internal/census"
)

// What brigd tells of its pool: how many wait in it, how many are being made, and how many
// creates took of it, or could not.
const (
	poolWaiting = `brig_pool_slots{state="waiting"}`
	poolMaking  = `brig_pool_slots{state="making"}`
	poolTaken   = `brig_pool_claims_total{outcome="slot",reason=""}`
	poolClaims  = "brig_pool_claims_total"
)

// fillPatience is how long a pool may take to fill.
const fillPatience = time.Minute

// poolOf is the configuration of a node whose pool always holds so many.
func poolOf(size int) string { return fmt.Sprintf("[pool]\nsize = %d\nmax = %d\n", size, size) }

// poolNode is a node whose pool holds so many, full.
func (s *session) poolNode(ctx context.Context, size int) (*testNode, error) {
	n, err := s.startOnce(ctx, nodeSpec{
		name: fmt.Sprintf("pool-%d", size), overrides: poolOf(size),
	})
	if err != nil {
		return nil, err
	}
	return n, n.awaitPool(ctx, size)
}

// withPool adds the source that takes of a pool; many at once empty it.
func (s *session) withPool(ctx context.Context, all []source) ([]source, error) {
	return s.addPool(ctx, all, func(n *testNode) making { return n.agentCreateToOutput })
}

// withInteractivePool is the same for sandboxes in which a command is run.
func (s *session) withInteractivePool(ctx context.Context, all []source) ([]source, error) {
	return s.addPool(ctx, all, func(n *testNode) making { return n.agentCreateAndExec })
}

func (s *session) addPool(ctx context.Context, all []source, of func(*testNode) making) ([]source, error) {
	n, err := s.poolNode(ctx, s.o.pool)
	if err != nil {
		return nil, err
	}
	return append(all, source{name: pooled, ours: true, make: of(n), refill: n.refilled(s.o.pool)}), nil
}

// refilled waits until a pool is full again.
func (n *testNode) refilled(size int) func(context.Context) error {
	return func(ctx context.Context) error { return n.awaitPool(ctx, size) }
}

// withEmptyPool adds the source that finds the pool empty: somebody has just taken the
// only one, and the next is being made.
func (s *session) withEmptyPool(ctx context.Context, all []source) ([]source, error) {
	n, err := s.poolNode(ctx, 1)
	if err != nil {
		return nil, err
	}
	empty := func(ctx context.Context) (time.Duration, func() error, error) {
		_, first, err := n.agentCreateToOutput(ctx)
		if err != nil {
			return 0, first, err
		}
		took, second, err := n.agentCreateToOutput(ctx)
		return took, func() error { return errors.Join(first(), second()) }, err
	}
	return append(all, source{name: pooledEmpty, ours: true, make: empty, refill: n.refilled(1)}), nil
}

// poolCost is the name of a measure of what waits.
func poolCost(what string) string { return "what waits in the pool, each: " + what }

// measurePoolCost is what a full pool costs that nobody takes anything of.
func measurePoolCost(ctx context.Context, s *session, o options) ([]series, error) {
	n, err := s.poolNode(ctx, o.pool)
	if err != nil {
		return nil, err
	}
	return n.waitingCost(pooled)
}

// waitingCost is what a node's sandboxes cost, all of which wait.
func (n *testNode) waitingCost(variant string) ([]series, error) {
	time.Sleep(settle)
	all, err := census.Processes()
	if err != nil {
		return nil, err
	}
	parents, err := processTable()
	if err != nil {
		return nil, err
	}
	memory := series{measure: poolCost("memory"), variant: variant, unit: "MiB", ours: true}
	processes := series{measure: poolCost("processes"), variant: variant, ours: true}
	for _, p := range all {
		if p.Class() != "containerd-shim-brig-v1" || !strings.Contains(strings.Join(p.Args, " "), n.dir) {
			continue
		}
		f, err := footprintBelow(parents, p.PID)
		if err != nil {
			return nil, err
		}
		memory.samples = append(memory.samples, float64(f.bytes())/(1<<20))
		processes.samples = append(processes.samples, float64(f.processes))
	}
	return []series{memory, processes}, nil
}

// taken tells how many creates took of the pools, of all that there were since the figures
// of before; it is what says that a source was what its name says.
func (s *session) taken(ctx context.Context, before []series) ([]series, error) {
	var all []series
	for i, name := range []string{fmt.Sprintf("pool-%d", s.o.pool), "pool-1"} {
		n := s.made[name]
		if n == nil {
			continue
		}
		slots, err := n.figure(ctx, poolTaken)
		if err != nil {
			return nil, err
		}
		claims, err := n.figure(ctx, poolClaims)
		if err != nil {
			return nil, err
		}
		one := series{measure: "creates that took of the pool", variant: []string{pooled, pooledEmpty}[i], unit: "%"}
		if before == nil {
			one.samples = []float64{slots, claims}
		} else {
			old := before[len(all)].samples
			one.samples = []float64{100 * (slots - old[0]) / (claims - old[1])}
		}
		all = append(all, one)
	}
	return all, nil
}

// awaitPool returns when so many wait.
func (n *testNode) awaitPool(ctx context.Context, size int) error {
	ctx, cancel := context.WithTimeout(ctx, fillPatience)
	defer cancel()
	for {
		waiting, err := n.figure(ctx, poolWaiting)
		if err != nil {
			return fmt.Errorf("ask how many wait in the pool: %w", err)
		}
		making, err := n.figure(ctx, poolMaking)
		if err != nil {
			return fmt.Errorf("ask how many are made for the pool: %w", err)
		}
		if waiting >= float64(size) && making == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%v of %d wait in the pool: %w", waiting, size, ctx.Err())
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// figure of brigd's: one with its labels, or the sum of all of a name.
func (n *testNode) figure(ctx context.Context, name string) (sum float64, err error) {
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", filepath.Join(n.dir, "brig.sock"))
	}}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://brig/metrics", nil)
	if err != nil {
		return 0, err
	}
	response, err := transport.RoundTrip(request)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return 0, err
	}
	found := false
	for line := range strings.Lines(string(text)) {
		key, value, ok := strings.Cut(strings.TrimSpace(line), " ")
		if family, _, _ := strings.Cut(key, "{"); !ok || family != name && key != name {
			continue
		}
		v, err := strconv.ParseFloat(value, 64)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", line, err)
		}
		sum, found = sum+v, true
	}
	if !found {
		return 0, fmt.Errorf("brigd has no figure %s", name)
	}
	return sum, nil
}
