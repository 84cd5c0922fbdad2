package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"connectrpc.com/connect"
	"golang.org/x/sync/errgroup"

	brigv1 "brig/nodeagent/api/brig/v1"
)

// atOnce is how many sandboxes are made at the same time.
const atOnce = 4

// moreIdle makes sandboxes until there are as many as ids is to hold.
func (n *testNode) moreIdle(ctx context.Context, ids []string, many int) ([]string, error) {
	more := make([]string, many-len(ids))
	var group errgroup.Group
	group.SetLimit(atOnce)
	for i := range more {
		group.Go(func() (err error) {
			more[i], err = n.agentIdle(ctx)
			return err
		})
	}
	err := group.Wait()
	return append(ids, more...), err
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
	resident, errResident := kilobytes(string(data), "Rss")
	proportional, errProportional := kilobytes(string(data), "Pss")
	return resident, proportional, errors.Join(errResident, errProportional)
}
