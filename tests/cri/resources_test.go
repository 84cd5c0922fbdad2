package cri

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// memory is the cgroup tree that limits memory, and the file that does.
func memory() (root, limit string) {
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err == nil {
		return "/sys/fs/cgroup", "memory.max"
	}
	return "/sys/fs/cgroup/memory", "memory.limit_in_bytes"
}

// limits are the memory limits in the pod's cgroups that somebody has set.
func (p *pod) limits() (limits []int64) {
	root, file := memory()
	_ = filepath.WalkDir(filepath.Join(root, p.config.GetLinux().GetCgroupParent()), func(path string, d os.DirEntry, err error) error {
		if err == nil && d.Name() == file {
			data, _ := os.ReadFile(path)
			if n, err := strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64); err == nil && n < 1<<50 {
				limits = append(limits, n)
			}
		}
		return nil
	})
	return limits
}

// pids in the pod's cgroups.
func (p *pod) pids() (pids []string) {
	root, _ := memory()
	_ = filepath.WalkDir(filepath.Join(root, p.config.GetLinux().GetCgroupParent()), func(path string, d os.DirEntry, err error) error {
		if err == nil && d.Name() == "cgroup.procs" {
			data, _ := os.ReadFile(path)
			pids = append(pids, strings.Fields(string(data))...)
		}
		return nil
	})
	return pids
}

// TestCgroupParent: what the kubelet gives a pod is what the pod gets.
func TestCgroupParent(t *testing.T) {
	under(t, all, func(t *testing.T, n *node, handler string) {
		p := n.run(t, handler)
		p.start("one", "sleep", "1000")
		p.start("two", "sleep", "1000")
		var programs []string
		for _, pid := range p.pids() {
			exe, _ := os.Readlink("/proc/" + pid + "/exe")
			programs = append(programs, filepath.Base(exe))
		}
		want := "gvisor_sentry"
		if handler == runc {
			want = "busybox"
		}
		if !strings.Contains(strings.Join(programs, " "), want) {
			t.Errorf("in the pod's cgroup run %v, want %s among them", programs, want)
		}
	})
}

// TestOutOfMemory: the kubelet limits the pod's cgroup; what eats more is killed, and
// says why.
func TestOutOfMemory(t *testing.T) {
	under(t, all, func(t *testing.T, n *node, handler string) {
		p := n.run(t, handler)
		root, file := memory()
		limit := filepath.Join(root, p.config.GetLinux().GetCgroupParent(), file)
		if err := os.WriteFile(limit, []byte(strconv.Itoa(192<<20)), 0o644); err != nil {
			t.Fatal(err)
		}
		c := p.startWith(func(c *cri.ContainerConfig) { c.Linux.Resources.MemoryLimitInBytes = 192 << 20 },
			"eater", "sh", "-c", "head -c 1000000000 /dev/zero | tail | wc -c; exit 137")
		s := c.exited()
		if s.GetExitCode() != 137 {
			t.Errorf("the eater exited with %d (%s)", s.GetExitCode(), s.GetReason())
		}
		eventually(t, func() error {
			if reason := c.status().GetReason(); reason != "OOMKilled" {
				return fmt.Errorf("the reason is %q", reason)
			}
			return nil
		})
	})
}

// TestStats are what `kubectl top` and the autoscalers are fed.
func TestStats(t *testing.T) {
	under(t, all, func(t *testing.T, n *node, handler string) {
		p := n.run(t, handler)
		one := p.start("one", "sh", "-c", "while :; do :; done")
		p.start("two", "sleep", "1000")
		eventually(t, func() error {
			r, err := n.ContainerStats(call(t), &cri.ContainerStatsRequest{ContainerId: one.id})
			if err != nil {
				return err
			}
			if s := r.GetStats(); s.GetCpu().GetUsageCoreNanoSeconds().GetValue() == 0 || s.GetMemory().GetWorkingSetBytes().GetValue() == 0 {
				return fmt.Errorf("the container's stats are %v", s)
			}
			return nil
		})
		r, err := n.PodSandboxStats(call(t), &cri.PodSandboxStatsRequest{PodSandboxId: p.id})
		if err != nil {
			t.Fatal(err)
		}
		s := r.GetStats().GetLinux()
		if s.GetCpu().GetUsageCoreNanoSeconds().GetValue() == 0 || s.GetMemory().GetWorkingSetBytes().GetValue() == 0 || len(s.GetContainers()) != 2 {
			t.Errorf("the pod's stats are %v", s)
		}
		if name := s.GetNetwork().GetDefaultInterface().GetName(); name != "eth0" {
			t.Errorf("the pod's interface is %q", name)
		}
		if list, err := n.ListContainerStats(call(t), &cri.ListContainerStatsRequest{Filter: &cri.ContainerStatsFilter{PodSandboxId: p.id}}); err != nil || len(list.GetStats()) != 2 {
			t.Errorf("the list has %d containers: %v", len(list.GetStats()), err)
		}
	})
}

// TestUpdateResources of a running container: in force, or refused. A limit that is
// accepted and not in force would be the worst.
func TestUpdateResources(t *testing.T) {
	under(t, all, func(t *testing.T, n *node, handler string) {
		p := n.run(t, handler)
		c := p.start("one", "sleep", "1000")
		const limit = 300 << 20
		_, err := n.UpdateContainerResources(call(t), &cri.UpdateContainerResourcesRequest{
			ContainerId: c.id, Linux: &cri.LinuxContainerResources{MemoryLimitInBytes: limit},
		})
		c.wantRunning()
		if err != nil {
			if handler == runc {
				t.Error(err)
			}
			t.Logf("refused: %v", err)
			return
		}
		for _, l := range p.limits() {
			if l == limit {
				return
			}
		}
		t.Errorf("the limits of the pod's cgroups are %v, want %d among them", p.limits(), limit)
	})
}

// TestUpdatePod is how a kubelet resizes a pod in place.
func TestUpdatePod(t *testing.T) {
	under(t, []string{brig, brigPlain}, func(t *testing.T, n *node, handler string) {
		p := n.run(t, handler)
		c := p.start("one", "sleep", "1000")
		const limit, overhead = 300 << 20, 20 << 20
		_, err := n.UpdatePodSandboxResources(call(t), &cri.UpdatePodSandboxResourcesRequest{
			PodSandboxId: p.id,
			Resources:    &cri.LinuxContainerResources{MemoryLimitInBytes: limit, CpuQuota: 50000, CpuPeriod: 100000},
			Overhead:     &cri.LinuxContainerResources{MemoryLimitInBytes: overhead},
		})
		if err != nil {
			t.Fatal(err)
		}
		c.wantRunning()
		if limits := p.limits(); !slices.Contains(limits, limit+overhead) {
			t.Errorf("the limits of the pod's cgroups are %v, want %d among them", limits, limit+overhead)
		}
	})
}
