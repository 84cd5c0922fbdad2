package task

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"time"

	"brig/shim/cgroup"
	"brig/shim/runsc"

	"github.com/containerd/errdefs"
)

// glance bounds what is asked of the sentry for somebody who looks at many sandboxes.
const glance = 2 * time.Second

// Stats of a task. The figures are the host's but for the threads, which only the sentry
// can count. In a pod the host knows the sandbox alone: the time of its containers is
// shared out as the sentry says, their memory is the sentry's word.
func (s *Shim) Stats(ctx context.Context, id string) (cgroup.Metrics, error) {
	t, err := s.get(id)
	if err != nil {
		return cgroup.Metrics{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, glance)
	defer cancel()
	usage, errSentry := t.usage(ctx)
	whole, err := t.sandbox.stat(usage)
	if err != nil {
		return cgroup.Metrics{}, err
	}
	if errSentry != nil {
		if t.sandbox.pod {
			return cgroup.Metrics{}, fmt.Errorf("the sandbox's kernel does not answer: %w: %w", errSentry, errdefs.ErrUnavailable)
		}
		t.sandbox.shim.opts.Log.Debug("the sentry does not count its threads", "sandbox", t.sandbox.id(), "err", errSentry)
		usage.Tasks = uint64(len(t.known()))
	}
	if t.sandbox.pod {
		s.onlyKnown(t.sandbox, usage.CPU)
		whole = whole.Part(t.sandbox.shares.of(t.id, whole.CPU(), usage.CPU), min(usage.Memory, whole.Memory()))
	}
	whole.SetTasks(usage.Tasks)
	return whole, nil
}

// onlyKnown drops from an account what the sentry has invented. What is kept of accounts
// would grow with every name in them.
func (s *Shim) onlyKnown(b *Sandbox, account map[string]uint64) {
	known := map[string]bool{b.root.id: true}
	for _, t := range s.list() {
		known[t.id] = true
	}
	maps.DeleteFunc(account, func(id string, _ uint64) bool { return !known[id] })
}

// PodStats of a whole sandbox of the Sandbox API.
func (s *Shim) PodStats(ctx context.Context, id string) (cgroup.Metrics, error) {
	_, root, err := s.holder(id)
	if err != nil {
		return cgroup.Metrics{}, err
	}
	if root == nil {
		return cgroup.Metrics{}, fmt.Errorf("statistics of pod %s, which was not started: %w", id, errdefs.ErrFailedPrecondition)
	}
	ctx, cancel := context.WithTimeout(ctx, glance)
	defer cancel()
	all, err := root.usage(ctx)
	var tasks uint64 // without the holder's own
	for _, t := range s.list() {
		if err == nil {
			var usage runsc.Usage
			usage, err = t.usage(ctx)
			tasks += usage.Tasks
		}
	}
	if err != nil {
		return cgroup.Metrics{}, fmt.Errorf("the sandbox's kernel does not answer: %w: %w", err, errdefs.ErrUnavailable)
	}
	whole, err := root.sandbox.stat(all)
	if err != nil {
		return cgroup.Metrics{}, err
	}
	whole.SetTasks(tasks)
	return whole, nil
}

// usage is nothing where there is no program.
func (t *Task) usage(ctx context.Context) (runsc.Usage, error) {
	if state, _ := t.init.look(); state == Created || state == Stopped || t.sandbox.isDead() {
		return runsc.Usage{}, nil
	}
	usage, err := t.sandbox.control.Usage(ctx, t.id)
	if err != nil && (t.sandbox.isDead() || t.init.isOver()) {
		return runsc.Usage{}, nil
	}
	return usage, err
}

// stat of the whole sandbox is the host's, or where the host has no account, the sentry's.
func (b *Sandbox) stat(usage runsc.Usage) (cgroup.Metrics, error) {
	if b.group == nil {
		var cpu uint64
		for time := range maps.Values(usage.CPU) {
			cpu += time
		}
		return cgroup.Empty().Part(cpu, usage.Memory), nil
	}
	m, err := b.group.Stat()
	if errors.Is(err, os.ErrNotExist) {
		err = fmt.Errorf("%w: %w", err, errdefs.ErrNotFound)
	}
	return m, err
}

// maxListed bounds a list of processes, whose length is the sentry's to say: a longer one
// does not fit a message to containerd, which takes that for the shim's end.
const maxListed = 1 << 16

// Processes lists the programs of a task by the ids of their execs. The program itself,
// whose id is empty, comes first; others whose id is empty, started by these, come last.
// Each of them lives in the process pid of the host, and has no other pid there.
//
// A program that has ended stays listed until the task is deleted: a containerd that
// starts again throws a shim without processes away, and the exit status with it.
func (s *Shim) Processes(ctx context.Context, id string) (pid int, execIDs []string, err error) {
	t, err := s.get(id)
	if err != nil {
		return 0, nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, glance)
	defer cancel()
	known := t.known()
	if len(known) == 0 || !t.sandbox.held.answers() {
		return t.sandbox.pid(), []string{""}, nil
	}
	// Before the start there is nobody to list, and a sentry that does not answer has
	// at least those that it was asked to start.
	inside, err := t.sandbox.control.Processes(ctx, t.id)
	if err != nil {
		t.sandbox.shim.opts.Log.Debug("the sentry does not list its processes", "sandbox", t.sandbox.id(), "err", err)
	}
	others := min(max(0, len(inside)-len(known)), maxListed)
	return t.sandbox.pid(), append(known, make([]string, others)...), nil
}

// known are the processes that this shim has started and that have not ended.
func (t *Task) known() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.init.isOver() {
		return nil
	}
	execIDs := []string{""}
	for execID, p := range t.execs {
		if state, _ := p.look(); state == Running {
			execIDs = append(execIDs, execID)
		}
	}
	slices.Sort(execIDs)
	return execIDs
}
