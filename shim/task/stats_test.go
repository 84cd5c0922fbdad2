package task

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"brig/shim/cgroup"
	"brig/shim/stdio"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// eventually tries until there is no error.
func eventually(t *testing.T, try func() error) {
	t.Helper()
	err := try()
	for deadline := time.Now().Add(20 * time.Second); err != nil && time.Now().Before(deadline); err = try() {
		time.Sleep(20 * time.Millisecond)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func tasks(m cgroup.Metrics) uint64 {
	if m.V2 != nil {
		return m.V2.Pids.Current
	}
	return m.V1.Pids.Current
}

func limit(m cgroup.Metrics) uint64 {
	if m.V2 != nil {
		return m.V2.Memory.UsageLimit
	}
	return m.V1.Memory.Usage.Limit
}

func TestStats(t *testing.T) {
	f := setUp(t, "/bin/sh", "-c", "sleep 1000 & while :; do :; done")
	memory := int64(256 << 20)
	f.spec.Linux.Resources = &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &memory}}
	id := f.request.ID
	if _, err := f.Stats(t.Context(), id); !errdefs.IsNotFound(err) {
		t.Errorf("of no task: %v", err)
	}
	f.must(f.create())
	m, err := f.Stats(t.Context(), id)
	if err != nil || tasks(m) != 0 || limit(m) != 256<<20 || m.Memory() == 0 {
		t.Errorf("created: %v, %v", m, err)
	}
	f.must(f.start())
	f.must(f.AddExec(id, "x", &specs.Process{Args: []string{"/bin/sleep", "1000"}, Cwd: "/"}, stdio.Config{}))
	_, err = f.StartExec(t.Context(), id, "x")
	f.must(err)
	look := func() error {
		m, err := f.Stats(t.Context(), id)
		_, processes, errPIDs := f.Processes(t.Context(), id)
		if err := errors.Join(err, errPIDs); err != nil {
			return err
		}
		if tasks(m) != 3 || m.CPU() == 0 || !slices.Equal(processes, []string{"", "x", ""}) {
			return fmt.Errorf("%d tasks, %d ns, processes %q; want the program, the exec and the program's child", tasks(m), m.CPU(), processes)
		}
		return nil
	}
	eventually(t, look)
	f.must(f.Pause(t.Context(), id))
	f.must(look())
	// A sentry that does not answer: the host's figures, and what the shim has started.
	f.must(f.tasks[id].sandbox.sentry.Signal(unix.SIGSTOP))
	eventually(t, func() error { return stopped(f.PID(id)) })
	start := time.Now()
	m, err = f.Stats(t.Context(), id)
	if err != nil || tasks(m) != 2 || m.Memory() == 0 {
		t.Errorf("without the sentry: %v, %v", m, err)
	}
	if _, processes, err := f.Processes(t.Context(), id); err != nil || !slices.Equal(processes, []string{"", "x"}) {
		t.Errorf("without the sentry: %q, %v", processes, err)
	}
	if took := time.Since(start); took > 3*glance {
		t.Errorf("both took %v", took)
	}
	f.must(f.tasks[id].sandbox.sentry.Signal(unix.SIGCONT))
	f.must(f.Kill(t.Context(), id, "", unix.SIGKILL, false))
	f.wait("")
	if _, processes, err := f.Processes(t.Context(), id); err != nil || !slices.Equal(processes, []string{""}) {
		t.Errorf("after the end: %q, %v; want the program until it is deleted", processes, err)
	}
	if m, err := f.Stats(t.Context(), id); err == nil && tasks(m) != 0 || err != nil && !errdefs.IsNotFound(err) {
		t.Errorf("after the end: %v, %v", m, err)
	}
	f.must(f.remove())
}

// stopped is no error once every thread of a process has stopped.
func stopped(pid int) error {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	for _, path := range threads {
		data, errRead := os.ReadFile(path)
		if err = errors.Join(err, errRead); err == nil && !strings.Contains(string(data), ") T ") {
			return fmt.Errorf("%s: %s", path, data)
		}
	}
	return err
}

func TestStatsOfAPod(t *testing.T) {
	f := setUpPod(t)
	for id, script := range map[string]string{"busy": "while :; do :; done", "idle": "exec sleep 1000"} {
		_, err := f.join(id, nil, "/bin/sh", "-c", script)
		f.must(err)
		_, err = f.Start(t.Context(), id)
		f.must(err)
	}
	eventually(t, func() error {
		whole, errWhole := f.PodStats(t.Context(), f.request.ID)
		busy, errBusy := f.Stats(t.Context(), "busy")
		idle, errIdle := f.Stats(t.Context(), "idle")
		if err := errors.Join(errWhole, errBusy, errIdle); err != nil {
			return err
		}
		if tasks(whole) != 2 || tasks(busy) != 1 || tasks(idle) != 1 {
			return fmt.Errorf("tasks: %d in the pod, %d and %d in its containers; want 2, 1, 1", tasks(whole), tasks(busy), tasks(idle))
		}
		if busy.CPU() < uint64(time.Second) || idle.CPU() > busy.CPU()/4 || busy.CPU()+idle.CPU() > 2*whole.CPU() {
			return fmt.Errorf("time: %d in the pod, %d and %d in its containers", whole.CPU(), busy.CPU(), idle.CPU())
		}
		if busy.Memory() == 0 || busy.Memory() > whole.Memory() {
			return fmt.Errorf("memory: %d in the pod, %d in a container", whole.Memory(), busy.Memory())
		}
		return nil
	})
	for _, id := range []string{"busy", "idle"} {
		f.must(f.Kill(t.Context(), id, "", unix.SIGKILL, false))
	}
}

// cgroupFile reads a file of the sandbox's group by its name on v1 or v2.
func (f *fixture) cgroupFile(v1, v2 string) string {
	f.t.Helper()
	controller, _, _ := strings.Cut(v1, ".")
	path := filepath.Join("/sys/fs/cgroup", controller, f.request.ID, v1)
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err == nil {
		path = filepath.Join("/sys/fs/cgroup", f.request.ID, v2)
	}
	data, err := os.ReadFile(path)
	f.must(err)
	return strings.TrimSpace(string(data))
}

func (f *fixture) memoryLimit() string { return f.cgroupFile("memory.limit_in_bytes", "memory.max") }

func memory(bytes int64) *specs.LinuxResources {
	return &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &bytes}}
}

func TestUpdate(t *testing.T) {
	f := setUp(t, "/bin/sleep", "1000")
	f.spec.Linux.Resources = memory(256 << 20)
	f.must(f.create())
	update := func(r *specs.LinuxResources) error { return f.Update(t.Context(), f.request.ID, r) }
	f.must(update(memory(512 << 20)))
	f.must(f.start())
	f.must(f.Pause(t.Context(), f.request.ID))
	f.must(update(memory(128 << 20)))
	f.must(f.Resume(t.Context(), f.request.ID))
	if got := f.memoryLimit(); got != "134217728" {
		t.Errorf("memory limit %s, want 128 MiB", got)
	}
	processes := int64(7)
	refused := memory(1 << 30)
	refused.Pids = &specs.LinuxPids{Limit: &processes}
	if err := update(refused); !errdefs.IsNotImplemented(err) {
		t.Errorf("a limit of processes: %v", err)
	}
	if _, err := os.Stat("/sys/fs/cgroup/memory"); err == nil {
		if err := update(memory(4096)); !errdefs.IsFailedPrecondition(err) {
			t.Errorf("a limit below what is in use: %v", err)
		}
	}
	if got := f.memoryLimit(); got != "134217728" {
		t.Errorf("after refused updates: %s, want 128 MiB", got)
	}
	f.must(f.Kill(t.Context(), f.request.ID, "", unix.SIGKILL, false))
	f.wait("")
	if err := update(memory(1 << 30)); !errdefs.IsNotFound(err) {
		t.Errorf("after the end: %v", err)
	}
	f.must(f.remove())
}

// TestLimitsOfAFoundCgroup: runsc leaves a cgroup alone that somebody made before.
func TestLimitsOfAFoundCgroup(t *testing.T) {
	f := setUp(t, "/bin/sleep", "1000")
	dir := filepath.Join("/sys/fs/cgroup/memory", f.request.ID)
	if err := os.Mkdir(dir, 0o755); errors.Is(err, os.ErrNotExist) {
		t.Skip("requires cgroup v1")
	} else if err != nil {
		t.Fatal(err)
	}
	f.spec.Linux.Resources = memory(256 << 20)
	f.must(f.create())
	if got := f.memoryLimit(); got != "268435456" {
		t.Errorf("memory limit %s, want 256 MiB", got)
	}
	f.must(f.Kill(t.Context(), f.request.ID, "", unix.SIGKILL, false))
	f.wait("")
	f.must(f.remove())
	f.must(os.Remove(dir))
}

func TestUpdateOfAPod(t *testing.T) {
	f := setUpPod(t)
	_, err := f.join("a", func(_ *CreateRequest, spec *specs.Spec) { spec.Linux.Resources = memory(64 << 20) }, "/bin/sleep", "1000")
	f.must(err)
	f.must(f.UpdatePod(t.Context(), f.request.ID, memory(128<<20)))
	if got := f.memoryLimit(); got != "134217728" {
		t.Errorf("memory limit %s, want 128 MiB", got)
	}
	f.must(f.Update(t.Context(), "a", memory(64<<20)))
	if err := f.Update(t.Context(), "a", memory(65<<20)); !errdefs.IsNotImplemented(err) {
		t.Errorf("another limit for one container: %v", err)
	}
	if err := f.UpdatePod(t.Context(), "another", memory(1<<30)); !errdefs.IsNotFound(err) {
		t.Errorf("another pod: %v", err)
	}
	f.must(f.Kill(t.Context(), "a", "", unix.SIGKILL, false))
}
