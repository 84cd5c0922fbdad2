package cgroup

import (
	"cmp"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Update holds the group to the limits of r, all of them or none: what cannot be
// written undoes what was. A field that is missing or zero leaves a limit as it is. The
// kernel decides what a limit below the present use means, and its refusal is the error.
//
// What cannot be changed is not looked at; Unchangeable refuses it. undo takes the
// update back.
func (g Group) Update(r *specs.LinuxResources) (undo func() error, err error) {
	wanted, err := g.plan(r)
	if err != nil {
		return nil, fmt.Errorf("update limits: %w", err)
	}
	var before, after settings
	for _, s := range wanted {
		now, err := g.read(s.file)
		if err != nil {
			return nil, fmt.Errorf("update limits: %w", err)
		}
		if now != s.value {
			before, after = append(before, setting{s.file, now}), append(after, s)
		}
	}
	if err := g.apply(after); err != nil {
		return nil, fmt.Errorf("update limits: %w", errors.Join(classify(err), g.apply(before)))
	}
	return func() error { return g.apply(before) }, nil
}

// classify a refusal of the kernel's.
func classify(err error) error {
	switch {
	case errors.Is(err, unix.EBUSY):
		return fmt.Errorf("%w: more is in use: %w", err, errdefs.ErrFailedPrecondition)
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ERANGE):
		return fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument)
	}
	return err
}

// apply writes settings in order. The kernel refuses some because of others that are
// still to come (a memory limit above that of memory and swap, a quota that its period
// makes too large), so those that fail are tried again as long as others succeed.
func (g Group) apply(todo settings) error {
	for len(todo) > 0 {
		var failed settings
		var first error
		for _, s := range todo {
			if err := g.write(s.file, s.value); err != nil {
				failed, first = append(failed, s), cmp.Or(first, fmt.Errorf("set %s to %q: %w", s.file, s.value, err))
			}
		}
		if len(failed) == len(todo) {
			return first
		}
		todo = failed
	}
	return nil
}

// setting is one file and what it shall say.
type setting struct{ file, value string }

type settings []setting

// add leaves out what means that nothing is asked.
func (s *settings) add(file, value string) {
	if value != "" {
		*s = append(*s, setting{file, value})
	}
}

// plan translates r into settings, always in the same order.
func (g Group) plan(r *specs.LinuxResources) (settings, error) {
	if r == nil {
		return nil, nil
	}
	if r.Memory != nil {
		if err := checkMemory(r.Memory); err != nil {
			return nil, err
		}
	}
	if g.Unified() {
		return g.plan2(r)
	}
	if len(r.Unified) > 0 {
		return nil, fmt.Errorf("unified limits: this host has cgroup v1: %w", errdefs.ErrInvalidArgument)
	}
	return plan1(r), nil
}

func plan1(r *specs.LinuxResources) (out settings) {
	if c := r.CPU; c != nil {
		out.add("cpu.shares", decimal(c.Shares))
		out.add("cpu.cfs_period_us", decimal(c.Period))
		out.add("cpu.cfs_quota_us", decimal(c.Quota))
		out.add("cpuset.cpus", c.Cpus)
		out.add("cpuset.mems", c.Mems)
	}
	if m := r.Memory; m != nil {
		swap := m.Swap
		if isSet(m.Limit) && *m.Limit == -1 && !isSet(swap) {
			swap = m.Limit // memory without a limit and swap with one contradict each other
		}
		out.add("memory.limit_in_bytes", decimal(m.Limit))
		out.add("memory.memsw.limit_in_bytes", decimal(swap))
		out.add("memory.soft_limit_in_bytes", decimal(m.Reservation))
	}
	return out
}

func (g Group) plan2(r *specs.LinuxResources) (out settings, err error) {
	if c := r.CPU; c != nil {
		bandwidth, err := g.bandwidth(c)
		if err != nil {
			return nil, err
		}
		out.add("cpu.weight", weight(c.Shares))
		out.add("cpu.max", bandwidth)
		out.add("cpuset.cpus", c.Cpus)
		out.add("cpuset.mems", c.Mems)
	}
	if m := r.Memory; m != nil {
		swap, err := g.swap(m)
		if err != nil {
			return nil, err
		}
		if err := g.checkUse(m); err != nil {
			return nil, err
		}
		out.add("memory.max", orMax(decimal(m.Limit)))
		out.add("memory.low", orMax(decimal(m.Reservation)))
		out = append(out, swap...)
	}
	for _, file := range changeable["unified"] {
		if value, ok := r.Unified[file]; ok {
			out = append(out, setting{file, value})
		}
	}
	return out, nil
}

// weight of v2 for v1's shares, by the formula of runsc, which sets it at the creation.
func weight(shares *uint64) string {
	if !isSet(shares) {
		return ""
	}
	return fmt.Sprint(1 + (min(max(*shares, 2), 262144)-2)*9999/262142)
}

// bandwidth is "quota period"; what is not asked for stays.
func (g Group) bandwidth(c *specs.LinuxCPU) (string, error) {
	if !isSet(c.Quota) && !isSet(c.Period) {
		return "", nil
	}
	now, err := g.read("cpu.max")
	if err != nil {
		return "", err
	}
	quota, period, _ := strings.Cut(now, " ")
	if isSet(c.Quota) {
		quota = orMax(decimal(c.Quota))
	}
	if isSet(c.Period) {
		period = decimal(c.Period)
	}
	return quota + " " + period, nil
}

// swap of v2 is without the memory, OCI's is with it.
func (g Group) swap(m *specs.LinuxMemory) (settings, error) {
	const file = "memory.swap.max"
	switch {
	case !isSet(m.Swap):
		return nil, nil
	case *m.Swap == -1:
		return settings{{file, "max"}}, nil
	}
	limit := decimal(m.Limit)
	if !isSet(m.Limit) {
		var err error
		if limit, err = g.read("memory.max"); err != nil {
			return nil, err
		}
	}
	memory, err := strconv.ParseInt(limit, 10, 64)
	if err != nil || *m.Swap < memory {
		return nil, fmt.Errorf("memory and swap of %d with a memory limit of %s: %w", *m.Swap, limit, errdefs.ErrInvalidArgument)
	}
	return settings{{file, strconv.FormatInt(*m.Swap-memory, 10)}}, nil
}

func checkMemory(m *specs.LinuxMemory) error {
	for _, value := range []*int64{m.Limit, m.Swap, m.Reservation} {
		if value != nil && *value < -1 {
			return fmt.Errorf("memory limit %d: %w", *value, errdefs.ErrInvalidArgument)
		}
	}
	if isSet(m.Limit) && isSet(m.Swap) && *m.Swap != -1 && (*m.Limit == -1 || *m.Swap < *m.Limit) {
		return fmt.Errorf("memory and swap of %d with a memory limit of %d: %w", *m.Swap, *m.Limit, errdefs.ErrInvalidArgument)
	}
	return nil
}

// checkUse is what v1 does by itself: v2 would rather kill than refuse.
func (g Group) checkUse(m *specs.LinuxMemory) error {
	if m.CheckBeforeUpdate == nil || !*m.CheckBeforeUpdate || !isSet(m.Limit) {
		return nil
	}
	now, err := g.read("memory.current")
	if err != nil {
		return err
	}
	if used := number(now); *m.Limit > 0 && used > uint64(*m.Limit) {
		return fmt.Errorf("memory limit %d: %d bytes are in use: %w", *m.Limit, used, errdefs.ErrFailedPrecondition)
	}
	return nil
}

func isSet[T int64 | uint64](p *T) bool { return p != nil && *p != 0 }

func decimal[T int64 | uint64](p *T) string {
	if !isSet(p) {
		return ""
	}
	return fmt.Sprint(*p)
}

func orMax(value string) string {
	if value == "-1" {
		return "max"
	}
	return value
}
