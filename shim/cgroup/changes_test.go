package cgroup

import (
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
)

func TestUnchangeable(t *testing.T) {
	made := &specs.LinuxResources{
		Devices: []specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}},
		Memory:  &specs.LinuxMemory{Limit: p[int64](5), Swappiness: p[uint64](7)},
		Unified: map[string]string{"memory.oom.group": "1"},
	}
	for _, c := range []struct {
		name   string
		wanted specs.LinuxResources
		want   string // in the error; empty: none
	}{
		{"CRI's whole spec again", specs.LinuxResources{
			Devices: made.Devices, Unified: map[string]string{"memory.oom.group": "1", "memory.high": "5"},
			Memory: &specs.LinuxMemory{Limit: p[int64](6), Swap: p[int64](6), Swappiness: p[uint64](7)},
			CPU:    &specs.LinuxCPU{Shares: p[uint64](2), Quota: p[int64](1000), Period: p[uint64](1000)},
		}, ""},
		{"docker's zeros", specs.LinuxResources{
			BlockIO: &specs.LinuxBlockIO{Weight: p[uint16](0)}, Pids: &specs.LinuxPids{Limit: p[int64](0)},
			CPU: &specs.LinuxCPU{}, Memory: &specs.LinuxMemory{DisableOOMKiller: p(false)},
		}, ""},
		{"any number of processes", specs.LinuxResources{Pids: &specs.LinuxPids{Limit: p[int64](-1)}}, ""},
		{"processes", specs.LinuxResources{Pids: &specs.LinuxPids{Limit: p[int64](5)}}, "change pids/limit"},
		{"disks", specs.LinuxResources{BlockIO: &specs.LinuxBlockIO{Weight: p[uint16](5)}}, "change blockIO/weight"},
		{"huge pages", specs.LinuxResources{HugepageLimits: []specs.LinuxHugepageLimit{{Pagesize: "2MB", Limit: 1}}}, "change hugepageLimits"},
		{"devices", specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{{Allow: true}}}, "change devices"},
		{"RDMA", specs.LinuxResources{Rdma: map[string]specs.LinuxRdma{"a": {HcaHandles: p[uint32](1)}}}, "change rdma/a"},
		{"network classes", specs.LinuxResources{Network: &specs.LinuxNetwork{ClassID: p[uint32](1)}}, "change network/classID"},
		{"real time", specs.LinuxResources{CPU: &specs.LinuxCPU{RealtimeRuntime: p[int64](1)}}, "change cpu/realtimeRuntime"},
		{"another swappiness", specs.LinuxResources{Memory: &specs.LinuxMemory{Swappiness: p[uint64](8)}}, "change memory/swappiness"},
		{"dying one by one", specs.LinuxResources{Unified: map[string]string{"memory.oom.group": "0"}}, "change unified/memory.oom.group"},
		{"a file elsewhere", specs.LinuxResources{Unified: map[string]string{"../../cpu.max": "1"}}, "change unified/../../cpu.max"},
	} {
		err := Unchangeable(made, &c.wanted)
		if c.want == "" && err != nil || c.want != "" && (!errdefs.IsNotImplemented(err) || !strings.HasPrefix(err.Error(), c.want+":")) {
			t.Errorf("%s: %v; want %q", c.name, err, c.want)
		}
	}
	if err := Unchanged(made, &specs.LinuxResources{CPU: &specs.LinuxCPU{Shares: p[uint64](0)}, Memory: &specs.LinuxMemory{Limit: p[int64](5)}}); err != nil {
		t.Errorf("the same again: %v", err)
	}
	if err := Unchanged(made, &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: p[int64](6)}}); !errdefs.IsNotImplemented(err) {
		t.Errorf("another limit: %v", err)
	}
	if err := Unchanged(nil, made); !errdefs.IsNotImplemented(err) {
		t.Errorf("a limit where none was: %v", err)
	}
}
