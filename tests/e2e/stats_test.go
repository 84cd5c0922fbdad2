package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"brig/tests/node"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// figures of `ctr task metrics`, on whichever version of cgroups the host has.
type figures struct {
	Tasks, Memory, Limit, CPU uint64
}

func metrics(t *testing.T, n *node.Node, id string) figures {
	t.Helper()
	r := n.Ctr(t, ctrNamespace, "tasks", "metrics", "--format", "json", id)
	if r.Code != 0 {
		t.Fatal(r)
	}
	var m struct {
		Pids struct{ Current uint64 }
		CPU  struct {
			Usage     struct{ Total uint64 }
			UsageUsec uint64 `json:"usage_usec"`
		}
		Memory struct {
			Usage      json.RawMessage // a number on v2
			UsageLimit uint64          `json:"usage_limit"`
		}
	}
	if err := json.Unmarshal([]byte(r.Stdout), &m); err != nil {
		t.Fatalf("%v: %s", err, r)
	}
	out := figures{Tasks: m.Pids.Current, CPU: m.CPU.Usage.Total + 1000*m.CPU.UsageUsec, Limit: m.Memory.UsageLimit}
	if json.Unmarshal(m.Memory.Usage, &out.Memory) != nil {
		var entry struct{ Usage, Limit uint64 }
		if err := json.Unmarshal(m.Memory.Usage, &entry); err != nil {
			t.Fatalf("%v: %s", err, r)
		}
		out.Memory, out.Limit = entry.Usage, entry.Limit
	}
	return out
}

// detached is `ctr run -d`, removed when t ends.
func detached(t *testing.T, n *node.Node, name string, flags []string, argv ...string) {
	t.Helper()
	args := append([]string{"run", "-d", "--runtime", "io.containerd.brig.v1"}, flags...)
	t.Cleanup(func() {
		n.Ctr(t, ctrNamespace, "tasks", "rm", "-f", name)
		n.Ctr(t, ctrNamespace, "containers", "rm", name)
	})
	if r := n.Ctr(t, ctrNamespace, append(append(args, ctrImage, name), argv...)...); r.Code != 0 {
		t.Fatal(r)
	}
}

// TestCtrMetrics reads what ctr shows of a sandbox that runs, and of one that is paused.
func TestCtrMetrics(t *testing.T) {
	t.Parallel()
	n := useCtr(t)
	detached(t, n.Node, "metrics", []string{"--memory-limit", "268435456"}, "sh", "-c", "sleep 1000 & while :; do :; done")
	var before figures
	eventually(t, 20*time.Second, func() error {
		before = metrics(t, n.Node, "metrics")
		if before.Tasks != 2 || before.CPU == 0 {
			return fmt.Errorf("%+v; want the two processes of the sandbox, and their time", before)
		}
		return nil
	})
	if before.Memory < 1<<20 || before.Memory > 256<<20 || before.Limit != 256<<20 {
		t.Errorf("memory %d of %d, want some of 256 MiB", before.Memory, before.Limit)
	}
	if r := n.Ctr(t, ctrNamespace, "tasks", "pause", "metrics"); r.Code != 0 {
		t.Fatal(r)
	}
	start := time.Now()
	if paused := metrics(t, n.Node, "metrics"); paused.Tasks != 2 || paused.CPU < before.CPU {
		t.Errorf("paused: %+v, before %+v", paused, before)
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("the metrics of a paused sandbox took %v", took)
	}
}

// TestCtrPS: the pids are the host's, and execs are told by their ids.
func TestCtrPS(t *testing.T) {
	t.Parallel()
	n := useCtr(t)
	detached(t, n.Node, "ps", nil, "sh", "-c", "while :; do sleep 1000; done")
	if r := n.Ctr(t, ctrNamespace, "tasks", "exec", "-d", "--exec-id", "e1", "ps", "sleep", "1000"); r.Code != 0 {
		t.Fatal(r)
	}
	list := n.Ctr(t, ctrNamespace, "tasks", "ls").Stdout
	var pid string
	for line := range strings.Lines(list) {
		if fields := strings.Fields(line); len(fields) > 1 && fields[0] == "ps" {
			pid = fields[1]
		}
	}
	if exe, err := os.Readlink("/proc/" + pid + "/exe"); err != nil || !strings.HasSuffix(exe, "/gvisor_sentry") {
		t.Fatalf("the task's pid %q is no sentry's: %v; %s", pid, err, list)
	}
	eventually(t, 20*time.Second, func() error {
		r := n.Ctr(t, ctrNamespace, "tasks", "ps", "ps")
		want := fmt.Sprintf("%[1]s - %[1]s exec_id:\"e1\" %[1]s -", pid)
		if got := strings.Join(strings.Fields(r.Stdout), " "); got != "PID INFO "+want {
			return fmt.Errorf("got %s, want %s", r, want)
		}
		return nil
	})
}

// cgroupOf finds the cgroup of a container of ctr's.
func cgroupOf(t *testing.T, id, v1, v2 string) string {
	t.Helper()
	controller, _, _ := strings.Cut(v1, ".")
	return readCgroup(t, filepath.Join(ctrNamespace, id), controller, v1, v2)
}

// TestCtrLimits: what ctr is told at the creation is what the kernel holds.
func TestCtrLimits(t *testing.T) {
	t.Parallel()
	n := useCtr(t)
	detached(t, n.Node, "limits", []string{
		"--memory-limit", "134217728", "--cpu-quota", "25000", "--cpu-period", "50000", "--cpu-shares", "512", "--cpuset-cpus", "0",
	}, "sleep", "1000")
	for _, c := range []struct{ v1, want1, v2, want2 string }{
		{"memory.limit_in_bytes", "134217728", "memory.max", "134217728"},
		{"cpu.cfs_quota_us", "25000", "cpu.max", "25000 50000"},
		{"cpu.cfs_period_us", "50000", "cpu.max", "25000 50000"},
		{"cpu.shares", "512", "cpu.weight", "20"},
		{"cpuset.cpus", "0", "cpuset.cpus", "0"},
	} {
		if got := cgroupOf(t, "limits", c.v1, c.v2); got != c.want1 && got != c.want2 {
			t.Errorf("%s or %s: %s", c.v1, c.v2, got)
		}
	}
}

// TestUpdate is containerd's client, which no command of ctr's covers.
func TestUpdate(t *testing.T) {
	t.Parallel()
	n := useCtr(t)
	detached(t, n.Node, "update", []string{"--memory-limit", "268435456"}, "sleep", "1000")
	client, err := containerd.New(n.Containerd())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(namespaces.WithNamespace(t.Context(), ctrNamespace), time.Minute)
	defer cancel()
	container, err := client.LoadContainer(ctx, "update")
	if err != nil {
		t.Fatal(err)
	}
	task, err := container.Task(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	update := func(memory, quota, processes int64) error {
		period, shares := uint64(100000), uint64(256)
		return task.Update(ctx, containerd.WithResources(&specs.LinuxResources{
			Memory: &specs.LinuxMemory{Limit: &memory},
			CPU:    &specs.LinuxCPU{Quota: &quota, Period: &period, Shares: &shares, Cpus: "0"},
			Pids:   &specs.LinuxPids{Limit: &processes},
		}))
	}
	check := func(memory, quota int64) {
		t.Helper()
		if got := cgroupOf(t, "update", "memory.limit_in_bytes", "memory.max"); got != strconv.FormatInt(memory, 10) {
			t.Errorf("memory limit %s, want %d", got, memory)
		}
		if got := cgroupOf(t, "update", "cpu.cfs_quota_us", "cpu.max"); got != fmt.Sprint(quota) && got != fmt.Sprint(quota, " 100000") {
			t.Errorf("quota %s, want %d", got, quota)
		}
	}
	if err := update(512<<20, 50000, 0); err != nil {
		t.Fatal(err)
	}
	check(512<<20, 50000)
	if got := cgroupOf(t, "update", "cpu.shares", "cpu.weight"); got != "256" && got != "10" {
		t.Errorf("shares %s, want 256", got)
	}
	if err := update(128<<20, 20000, 5); !errdefs.IsNotImplemented(err) || !strings.Contains(err.Error(), "pids/limit") {
		t.Errorf("a limit of processes: %v", err)
	}
	check(512<<20, 50000)
	if err := update(128<<20, 1, -1); !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), "cpu.") {
		t.Errorf("a quota below the kernel's least: %v", err)
	}
	check(512<<20, 50000)
	if limit := metrics(t, n.Node, "update").Limit; limit != 512<<20 {
		t.Errorf("the metrics say %d, want 512 MiB", limit)
	}
}
