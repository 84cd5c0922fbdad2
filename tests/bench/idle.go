package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/containerd/v2/client"
)

// settle is how long a sandbox has been idle when it is looked at.
const settle = time.Second

// measureIdle counts the processes of idle sandboxes and their share of memory. What
// several processes map counts by halves, thirds and so on (PSS), which is why the
// variants are never there at the same time: ours and a peer's have programs
// in common.
func measureIdle(ctx context.Context, n *testNode, o options, rng *rand.Rand, progress io.Writer) ([]series, error) {
	alone, err := measureCrowd(ctx, n, 1, o.rounds, rng, progress)
	if err != nil {
		return nil, err
	}
	crowded, err := measureCrowd(ctx, n, o.crowd, (o.rounds+o.crowd-1)/o.crowd, rng, progress)
	return append(alone, crowded...), err
}

// measureCrowd takes a sample of each of size sandboxes that are idle at once.
func measureCrowd(ctx context.Context, n *testNode, size, rounds int, rng *rand.Rand, progress io.Writer) ([]series, error) {
	runtimes, err := n.runtimes()
	if err != nil {
		return nil, err
	}
	name := fmt.Sprintf("an idle sandbox of %d", size)
	processes, memory := make([]series, len(runtimes)), make([]series, len(runtimes))
	for i, r := range runtimes {
		processes[i] = series{measure: name + ": processes", variant: r.name, ours: r.ours}
		memory[i] = series{measure: name + ": memory", variant: r.name, ours: r.ours, unit: "MiB"}
	}
	err = interleave(ctx, rng, len(runtimes), rounds, name, progress, func(i, _ int) {
		prints, err := n.crowd(ctx, runtimes[i], size)
		if err != nil {
			processes[i].failures = append(processes[i].failures, err)
			memory[i].failures = append(memory[i].failures, err)
			return
		}
		for _, p := range prints {
			processes[i].samples = append(processes[i].samples, float64(p.processes))
			memory[i].samples = append(memory[i].samples, float64(p.bytes)/(1<<20))
		}
	})
	return append(processes, memory...), err
}

// crowd has size sandboxes idle at once and returns what each of them costs.
func (n *testNode) crowd(ctx context.Context, r shimRuntime, size int) (_ []footprint, err error) {
	tasks := make([]client.Task, size)
	for i := range tasks {
		task, remove, err := n.idle(ctx, r)
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, remove()) }()
		tasks[i] = task
	}
	time.Sleep(settle)
	prints := make([]footprint, size)
	for i, task := range tasks {
		if prints[i], err = footprintOf(int(task.Pid())); err != nil {
			return nil, err
		}
	}
	return prints, nil
}

// footprint of a sandbox on its host. The processes are the shim and its children: what
// a sentry forks are the address spaces of its programs, as many with any shim. The
// memory is that of all of them.
type footprint struct {
	processes int
	bytes     int // proportional
}

// footprintOf a sandbox is that of its shim, the parent of its first process, and of
// what descends from the shim.
func footprintOf(first int) (footprint, error) {
	parents, err := processTable()
	if err != nil {
		return footprint{}, err
	}
	shim, ok := parents[first]
	if !ok || shim == 1 {
		return footprint{}, fmt.Errorf("process %d has no shim for a parent", first)
	}
	var f footprint
	for pid := range parents {
		if pid != shim && !descends(parents, pid, shim) {
			continue
		}
		bytes, err := proportionalSize(pid)
		if err != nil {
			return footprint{}, err
		}
		if pid == shim || parents[pid] == shim {
			f.processes++
		}
		f.bytes += bytes
	}
	return f, nil
}

func descends(parents map[int]int, pid, from int) bool {
	for pid != 0 {
		pid = parents[pid]
		if pid == from {
			return true
		}
	}
	return false
}

// processTable is the parent of every process.
func processTable() (map[int]int, error) {
	paths, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil, err
	}
	parents := make(map[int]int, len(paths))
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err != nil {
			return nil, err
		}
		// The name, in brackets, may hold anything; its state and parent come after it.
		fields := bytes.Fields(data[bytes.LastIndexByte(data, ')')+1:])
		if parents[pid], err = strconv.Atoi(string(fields[1])); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
	}
	return parents, nil
}

// proportionalSize is a process's memory in bytes, with its share of what it has in
// common with others.
func proportionalSize(pid int) (int, error) {
	path := fmt.Sprintf("/proc/%d/smaps_rollup", pid)
	data, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(data)) {
		if value, ok := strings.CutPrefix(line, "Pss:"); ok {
			kilobytes, err := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(value), " kB"))
			return kilobytes << 10, err
		}
	}
	return 0, fmt.Errorf("%s tells no PSS", path)
}
