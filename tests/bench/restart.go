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
	"syscall"
	"time"

	"connectrpc.com/connect"
	"golang.org/x/sync/errgroup"

	brigv1 "brig/nodeagent/api/brig/v1"
)

// atOnce is how many sandboxes are made at the same time.
const atOnce = 4

// measureRestart kills brigd under many idle sandboxes and starts it again: until it
// answers a list, until it has brought the node in line, and what memory it holds then.
func measureRestart(ctx context.Context, n *testNode, o options, _ *rand.Rand, progress io.Writer) (_ []series, err error) {
	var ids []string
	defer func() { err = errors.Join(err, n.removeAll(context.WithoutCancel(ctx), ids)) }()
	if ids, err = n.manyIdle(ctx, o.idle, progress); err != nil {
		return nil, err
	}
	name := fmt.Sprintf("brigd with %d idle sandboxes: ", o.idle)
	answers := series{measure: name + "restart, API answers", variant: "brigd", unit: "ms", ours: true}
	settled := series{measure: name + "restart, reconciled", variant: "brigd", unit: "ms", ours: true}
	rss := series{measure: name + "resident memory", variant: "RSS", unit: "MiB", ours: true}
	pss := series{measure: name + "resident memory", variant: "PSS", unit: "MiB", ours: true}
	made := series{measure: name + "resident memory", variant: "RSS of the one that made them", unit: "MiB", ours: true}
	time.Sleep(settle)
	resident, _, err := memory(n.brigd.Process.Pid)
	if err != nil {
		return nil, err
	}
	made.samples = []float64{float64(resident) / (1 << 20)}
	for round := range o.restarts {
		fmt.Fprintf(progress, "%sround %d of %d\n", name, round+1, o.restarts)
		a, s, err := n.restart(ctx)
		if err != nil {
			return nil, err
		}
		answers.samples = append(answers.samples, float64(a)/1e6)
		settled.samples = append(settled.samples, float64(s)/1e6)
		time.Sleep(settle)
		resident, proportional, err := memory(n.brigd.Process.Pid)
		if err != nil {
			return nil, err
		}
		rss.samples = append(rss.samples, float64(resident)/(1<<20))
		pss.samples = append(pss.samples, float64(proportional)/(1<<20))
	}
	return []series{answers, settled, rss, pss, made}, nil
}

func (n *testNode) manyIdle(ctx context.Context, many int, progress io.Writer) ([]string, error) {
	ids := make([]string, many)
	var group errgroup.Group
	group.SetLimit(atOnce)
	for i := range ids {
		group.Go(func() (err error) {
			ids[i], err = n.agentIdle(ctx)
			return err
		})
	}
	err := group.Wait()
	fmt.Fprintf(progress, "%d idle sandboxes made\n", many)
	return ids, err
}

func (n *testNode) removeAll(ctx context.Context, ids []string) error {
	var group errgroup.Group
	group.SetLimit(atOnce)
	for _, id := range ids {
		if id != "" {
			group.Go(func() error { return n.removeSandbox(ctx, id) })
		}
	}
	return group.Wait()
}

// restart kills brigd and measures from its start on.
func (n *testNode) restart(ctx context.Context) (answers, settled time.Duration, err error) {
	if err := n.brigd.Process.Signal(syscall.SIGKILL); err != nil {
		return 0, 0, err
	}
	_ = n.brigd.Wait()
	began := time.Now()
	if err := n.startBrigd(ctx); err != nil {
		return 0, 0, err
	}
	if _, err := n.sandboxes.List(ctx, connect.NewRequest(&brigv1.ListRequest{})); err != nil {
		return 0, 0, err
	}
	answers = time.Since(began)
	for deadline := began.Add(time.Minute); ; time.Sleep(time.Millisecond) {
		log, err := os.ReadFile(filepath.Join(n.dir, "brigd.log"))
		if err != nil {
			return 0, 0, err
		}
		if bytes.Contains(log, []byte("msg=reconciled")) {
			return answers, time.Since(began), nil
		}
		if time.Now().After(deadline) {
			return 0, 0, errors.New("brigd has not reconciled within a minute")
		}
	}
}

// memory of a process in bytes: resident, and with its share of what it has in common
// with others.
func memory(pid int) (resident, proportional int, err error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(string(data)) {
		if value, ok := strings.CutPrefix(line, "Rss:"); ok {
			kilobytes, err := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(value), " kB"))
			if err != nil {
				return 0, 0, err
			}
			resident = kilobytes << 10
		}
	}
	proportional, err = proportionalSize(pid)
	return resident, proportional, err
}
