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

// poolBuilt says that brigd has a pool. As long as it has none, what is claimed of it is
// in the summary as not measured.
const poolBuilt = false

// poolWaiting is brigd's figure of how many sandboxes wait in its pool.
const poolWaiting = "brig_pool_ready"

// fillPatience is how long a pool may take to fill.
const fillPatience = time.Minute

// poolNode is a node whose pool holds so many, full.
func (s *session) poolNode(ctx context.Context, size int) (*testNode, error) {
	n, err := s.startOnce(ctx, nodeSpec{
		name: fmt.Sprintf("pool-%d", size), overrides: fmt.Sprintf("[pool]\nsize = %d\nmax = %d\n", size, size),
	})
	if err != nil {
		return nil, err
	}
	return n, n.awaitPool(ctx, size)
}

// withPool adds the source that takes of a pool, which is full again before the next one
// is made; many at once empty it.
func (s *session) withPool(ctx context.Context, all []source) ([]source, error) {
	return s.addPool(ctx, all, func(n *testNode) making { return n.agentCreateToOutput })
}

// withInteractivePool is the same for sandboxes in which a command is run.
func (s *session) withInteractivePool(ctx context.Context, all []source) ([]source, error) {
	return s.addPool(ctx, all, func(n *testNode) making { return n.agentCreateAndExec })
}

func (s *session) addPool(ctx context.Context, all []source, of func(*testNode) making) ([]source, error) {
	if !poolBuilt {
		return all, nil
	}
	n, err := s.poolNode(ctx, s.o.pool)
	if err != nil {
		return nil, err
	}
	return append(all, source{pooled, true, refilled(n, s.o.pool, of(n))}), nil
}

// refilled waits, outside of the time taken, until a pool is full again.
func refilled(n *testNode, size int, make making) making {
	return func(ctx context.Context) (time.Duration, func() error, error) {
		took, remove, err := make(ctx)
		return took, func() error {
			return errors.Join(remove(), n.awaitPool(context.WithoutCancel(ctx), size))
		}, err
	}
}

// withEmptyPool adds the source that finds the pool empty: somebody has just taken the
// only one, and the next is being made.
func (s *session) withEmptyPool(ctx context.Context, all []source) ([]source, error) {
	if !poolBuilt {
		return all, nil
	}
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
	return append(all, source{pooledEmpty, true, refilled(n, 1, empty)}), nil
}

// poolCost is the name of a measure of what waits.
func poolCost(what string) string { return "what waits in the pool, each: " + what }

// measurePoolCost is what a full pool costs that nobody takes anything of.
func measurePoolCost(ctx context.Context, s *session, o options) ([]series, error) {
	if !poolBuilt {
		return nil, nil
	}
	n, err := s.poolNode(ctx, o.pool)
	if err != nil {
		return nil, err
	}
	time.Sleep(settle)
	all, err := census.Processes()
	if err != nil {
		return nil, err
	}
	parents, err := processTable()
	if err != nil {
		return nil, err
	}
	memory := series{measure: poolCost("memory"), variant: pooled, unit: "MiB", ours: true}
	processes := series{measure: poolCost("processes"), variant: pooled, ours: true}
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

// awaitPool returns when so many wait.
func (n *testNode) awaitPool(ctx context.Context, size int) error {
	ctx, cancel := context.WithTimeout(ctx, fillPatience)
	defer cancel()
	for {
		waiting, err := n.figure(ctx, poolWaiting)
		if err != nil {
			return fmt.Errorf("ask how many wait in the pool: %w", err)
		}
		if waiting >= float64(size) {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%v of %d wait in the pool: %w", waiting, size, ctx.Err())
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// figure of brigd's, the sum of all its labels'.
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
		if family, _, _ := strings.Cut(key, "{"); !ok || family != name {
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
