package cgroup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"brig/internal/require"

	"github.com/opencontainers/runtime-spec/specs-go"
)

func p[T any](v T) *T { return &v }

// TestPlan shows what a request becomes, as text.
func TestPlan(t *testing.T) {
	files := map[string]string{"cpu.max": "max 100000\n", "memory.max": "1000\n", "memory.current": "600\n"}
	for _, c := range []struct {
		name   string
		in     specs.LinuxResources
		v1, v2 string
	}{
		{"nothing", specs.LinuxResources{}, "", ""},
		{
			"zeros, as docker sends them",
			specs.LinuxResources{
				CPU:    &specs.LinuxCPU{Shares: p[uint64](0), Period: p[uint64](0), Quota: p[int64](0)},
				Memory: &specs.LinuxMemory{Limit: p[int64](0), Reservation: p[int64](0), Swap: p[int64](0)},
			}, "", "",
		},
		{
			"all",
			specs.LinuxResources{
				CPU:    &specs.LinuxCPU{Shares: p[uint64](1024), Period: p[uint64](50000), Quota: p[int64](25000), Cpus: "0-1", Mems: "0"},
				Memory: &specs.LinuxMemory{Limit: p[int64](400), Reservation: p[int64](200), Swap: p[int64](500)},
			},
			"cpu.shares=1024 cpu.cfs_period_us=50000 cpu.cfs_quota_us=25000 cpuset.cpus=0-1 cpuset.mems=0 " +
				"memory.limit_in_bytes=400 memory.memsw.limit_in_bytes=500 memory.soft_limit_in_bytes=200",
			"cpu.weight=39 cpu.max=25000 50000 cpuset.cpus=0-1 cpuset.mems=0 memory.max=400 memory.low=200 memory.swap.max=100",
		},
		{"a period alone", specs.LinuxResources{CPU: &specs.LinuxCPU{Period: p[uint64](5000)}}, "cpu.cfs_period_us=5000", "cpu.max=max 5000"},
		{
			"no limits",
			specs.LinuxResources{CPU: &specs.LinuxCPU{Quota: p[int64](-1)}, Memory: &specs.LinuxMemory{Limit: p[int64](-1)}},
			"cpu.cfs_quota_us=-1 memory.limit_in_bytes=-1 memory.memsw.limit_in_bytes=-1", "cpu.max=max 100000 memory.max=max",
		},
		{"swap alone", specs.LinuxResources{Memory: &specs.LinuxMemory{Swap: p[int64](1000)}}, "memory.memsw.limit_in_bytes=1000", "memory.swap.max=0"},
		{"any swap", specs.LinuxResources{Memory: &specs.LinuxMemory{Swap: p[int64](-1)}}, "memory.memsw.limit_in_bytes=-1", "memory.swap.max=max"},
		{
			"swap below memory", specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: p[int64](9), Swap: p[int64](8)}},
			"error: memory and swap of 8", "error: memory and swap of 8",
		},
		{"a negative limit", specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: p[int64](-2)}}, "error: memory limit -2", "error: memory limit -2"},
		{
			"a limit that is to be checked",
			specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: p[int64](500), CheckBeforeUpdate: p(true)}},
			"memory.limit_in_bytes=500", "error: 600 bytes are in use",
		},
		{
			"unified", specs.LinuxResources{Unified: map[string]string{"memory.high": "300", "cpu.weight": "7"}},
			"error: this host has cgroup v1", "cpu.weight=7 memory.high=300",
		},
		{"the least shares", specs.LinuxResources{CPU: &specs.LinuxCPU{Shares: p[uint64](1)}}, "cpu.shares=1", "cpu.weight=1"},
		{"the most shares", specs.LinuxResources{CPU: &specs.LinuxCPU{Shares: p[uint64](1 << 40)}}, "cpu.shares=1099511627776", "cpu.weight=10000"},
	} {
		for _, unified := range []bool{false, true} {
			want := map[bool]string{false: c.v1, true: c.v2}[unified]
			plan, err := fake(t, unified, files).plan(&c.in)
			var got []string
			for _, s := range plan {
				got = append(got, s.file+"="+s.value)
			}
			if part, isError := strings.CutPrefix(want, "error: "); isError {
				if err == nil || !strings.Contains(err.Error(), part) {
					t.Errorf("%s, unified %t: %v; want an error with %q", c.name, unified, err, part)
				}
			} else if err != nil || strings.Join(got, " ") != want {
				t.Errorf("%s, unified %t:\ngot  %s, %v\nwant %s", c.name, unified, strings.Join(got, " "), err, want)
			}
		}
	}
}

// TestUpdateOnTheHost has the kernel decide.
func TestUpdateOnTheHost(t *testing.T) {
	require.Root(t)
	g := Group{folders: make(map[string]string)}
	for _, controller := range []string{"cpu", "cpuset", "memory"} {
		dir := filepath.Join("/sys/fs/cgroup", controller, fmt.Sprintf("brig-cgroup-test-%d", os.Getpid()))
		if err := os.Mkdir(dir, 0o755); errors.Is(err, os.ErrNotExist) {
			t.Skip("requires cgroup v1 with the controllers of processor and memory")
		} else if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.Remove(dir) })
		g.folders[controller] = dir
	}
	files := []string{"cpu.shares", "cpu.cfs_period_us", "cpu.cfs_quota_us", "memory.limit_in_bytes", "memory.memsw.limit_in_bytes"}
	look := func() (out []string) {
		for _, file := range files {
			value, err := g.read(file)
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, value)
		}
		return out
	}
	limits := func(memory, quota int64) *specs.LinuxResources {
		return &specs.LinuxResources{
			CPU:    &specs.LinuxCPU{Shares: p[uint64](512), Period: p[uint64](50000), Quota: &quota},
			Memory: &specs.LinuxMemory{Limit: &memory, Swap: &memory},
		}
	}
	// Down and up: in each direction another order is right.
	for _, memory := range []int64{64 << 20, 32 << 20, 128 << 20} {
		if _, err := g.Update(limits(memory, 25000)); err != nil {
			t.Fatal(err)
		}
		want := []string{"512", "50000", "25000", fmt.Sprint(memory), fmt.Sprint(memory)}
		if got := look(); !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	}
	before := look()
	if _, err := g.Update(limits(64<<20, 10)); err == nil || !strings.Contains(err.Error(), "cpu.cfs_quota_us") {
		t.Errorf("a quota below the kernel's least: %v", err)
	}
	if got := look(); !slices.Equal(got, before) {
		t.Errorf("after a refused update: %v, before it %v", got, before)
	}
	undo, err := g.Update(limits(64<<20, 30000))
	if err == nil {
		err = undo()
	}
	if got := look(); err != nil || !slices.Equal(got, before) {
		t.Errorf("after an undone update: %v (%v), before it %v", got, err, before)
	}
	bad := limits(64<<20, 30000)
	bad.CPU.Cpus = "4096"
	if _, err := g.Update(bad); err == nil || !strings.Contains(err.Error(), "cpuset.cpus") {
		t.Errorf("a processor that is not there: %v", err)
	}
	if got := look(); !slices.Equal(got, before) {
		t.Errorf("after a refused update: %v, before it %v", got, before)
	}
}
