package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"brig/tests/node"
)

// ended is the part of `brig inspect` that tells how a sandbox ended.
type ended struct {
	State string
	Exit  struct {
		Code   int
		Reason string
	}
}

func inspect(t *testing.T, n *node.Node, id string) ended {
	t.Helper()
	var e ended
	if err := json.Unmarshal([]byte(n.Brig(t, "inspect", id)), &e); err != nil {
		t.Fatal(err)
	}
	return e
}

// wantEnd waits for a sandbox and compares how it ended.
func wantEnd(t *testing.T, n *node.Node, id string, code int, reason string) {
	t.Helper()
	if r := n.Try(t, "wait", id); r.Code != code {
		t.Errorf("wait: want status %d: %s", code, r)
	}
	if e := inspect(t, n, id); e.State != "exited" || e.Exit.Code != code || e.Exit.Reason != reason {
		t.Errorf("%s ended as %+v, want %d by %s", id, e, code, reason)
	}
}

// cgroupFile reads a file of the sandbox's cgroup: controller and v1 name on a
// host with cgroup v1, v2 name on one with v2.
func cgroupFile(t *testing.T, n *node.Node, id, controller, v1, v2 string) string {
	t.Helper()
	c, err := n.Config()
	if err != nil {
		t.Fatal(err)
	}
	return readCgroup(t, filepath.Join(c.CgroupParent(), id), controller, v1, v2)
}

// readCgroup reads a file of the group below, by the hierarchy that the host has.
func readCgroup(t *testing.T, below, controller, v1, v2 string) string {
	t.Helper()
	path := filepath.Join("/sys/fs/cgroup", controller, below, v1)
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err == nil {
		path = filepath.Join("/sys/fs/cgroup", below, v2)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(data))
}

// TestLimits looks at the kernel's own account: the limits, and that the
// sandbox's kernel is under them.
func TestLimits(t *testing.T) {
	t.Parallel()
	n := use(t)
	id := n.Create(t, "--memory", "128", "--cpu", "0.5", n.busybox)
	if got := cgroupFile(t, n.Node, id, "memory", "memory.limit_in_bytes", "memory.max"); got != strconv.Itoa(128<<20) {
		t.Errorf("memory limit %s, want 128 MiB", got)
	}
	cpu := strings.Fields(cgroupFile(t, n.Node, id, "cpu", "cpu.cfs_quota_us", "cpu.max"))
	if len(cpu) == 1 {
		cpu = append(cpu, cgroupFile(t, n.Node, id, "cpu", "cpu.cfs_period_us", ""))
	}
	quota, _ := strconv.ParseFloat(cpu[0], 64)
	period, _ := strconv.ParseFloat(cpu[1], 64)
	if quota/period != 0.5 {
		t.Errorf("cpu quota %v of %v, want half a core", quota, period)
	}
	sentries := 0
	for _, pid := range strings.Fields(cgroupFile(t, n.Node, id, "memory", "cgroup.procs", "cgroup.procs")) {
		if exe, err := os.Readlink("/proc/" + pid + "/exe"); err == nil && strings.HasSuffix(exe, "/gvisor_sentry") {
			sentries++
		}
	}
	// The sentry, and the processes in which it runs the sandbox's code.
	if sentries == 0 {
		t.Error("no sentry in the sandbox's memory cgroup")
	}
}

// TestCPULimitHolds burns for two seconds on half a core.
func TestCPULimitHolds(t *testing.T) {
	n := use(t)
	id := n.Create(t, "--cpu", "0.5", n.busybox)
	before := cpuSeconds(t, n.Node, id)
	start := time.Now()
	n.Try(t, "exec", "--timeout", "2s", id, "--", "sh", "-c", "while :; do :; done & while :; do :; done")
	took := time.Since(start).Seconds()
	if used := cpuSeconds(t, n.Node, id) - before; used > 0.75*took || used < 0.02*took { // a crowded machine may not give it the half
		t.Errorf("%.2f s of CPU in %.2f s, want about half", used, took)
	}
}

func cpuSeconds(t *testing.T, n *node.Node, id string) float64 {
	t.Helper()
	text := cgroupFile(t, n, id, "cpuacct", "cpuacct.usage", "cpu.stat")
	if rest, ok := strings.CutPrefix(text, "usage_usec "); ok {
		usec, _ := strconv.ParseFloat(strings.Fields(rest)[0], 64)
		return usec / 1e6
	}
	nsec, _ := strconv.ParseFloat(text, 64)
	return nsec / 1e9
}

// TestOutOfMemory is the hard limit's end: 137, and the reason says why.
func TestOutOfMemory(t *testing.T) {
	t.Parallel()
	n := use(t)
	id := n.Create(t, "--memory", "128", n.python, "--", "python3", "-c", "x = bytearray(b'x') * (1 << 29); print(len(x))")
	wantEnd(t, n.Node, id, 137, "oom")
}

// TestTimeout ends a sandbox by the wall clock, also one that idles.
func TestTimeout(t *testing.T) {
	t.Parallel()
	n := use(t)
	start := time.Now()
	idle := n.Create(t, "--timeout", "3s", n.busybox)
	busy := n.Create(t, "--timeout", "3s", n.busybox, "--", "sh", "-c", "trap '' TERM; while :; do sleep 1; done")
	wantEnd(t, n.Node, idle, 124, "timeout")
	wantEnd(t, n.Node, busy, 124, "timeout")
	if took := time.Since(start); took < 3*time.Second {
		t.Errorf("both ended after %v, before their time", took)
	}
}

// TestTerminate tells SIGTERM's grace from SIGKILL.
func TestTerminate(t *testing.T) {
	t.Parallel()
	n := use(t)
	id := n.Create(t, n.busybox, "--", "sh", "-c", "trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.1; done")
	eventually(t, 10*time.Second, func() error {
		if logs := n.Brig(t, "logs", id); logs != "up\n" {
			return fmt.Errorf("logs: %q", logs)
		}
		return nil
	})
	followed := make(chan string, 1)
	go func() { followed <- n.Try(t, "logs", "-f", id).Stdout }()
	n.Brig(t, "rm", id)
	if logs := <-followed; logs != "up\nbye\n" && logs != "up\n" {
		t.Errorf("logs: %q", logs)
	}
	if r := n.Try(t, "inspect", id); r.Code == 0 {
		t.Errorf("inspect after rm: %s", r)
	}
}

// TestUnknownProgram undoes the sandbox; nothing of it is listed.
func TestUnknownProgram(t *testing.T) {
	t.Parallel()
	n := use(t)
	r := n.Try(t, "create", "--tag", "suite=unknown-program", n.busybox, "--", "/no/such/program")
	if r.Code == 0 || !strings.Contains(r.Stderr, "/no/such/program") {
		t.Errorf("create: %s", r)
	}
	if ls := n.Brig(t, "ls", "--json", "--tag", "suite=unknown-program"); strings.Contains(ls, "sb-") {
		t.Errorf("a sandbox that never ran is running: %s", ls)
	}
}
