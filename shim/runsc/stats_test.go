package runsc

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// TestContractUsage has the guest's own cgroups mounted, as docker and CRI do, and a
// namespace of processes: neither may change by what name a container is found.
func TestContractUsage(t *testing.T) {
	edit := func(s *specs.Spec) {
		s.Mounts = []specs.Mount{{Type: "cgroup", Source: "cgroup", Destination: "/sys/fs/cgroup", Options: []string{"ro"}}}
		s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.PIDNamespace})
	}
	r, id, dir, _ := bootSpec(t, edit, "/bin/sh", "-c", "sleep 1000 & i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done; wait")
	c := NewControl(r.Root, id)
	if u, err := c.Usage(t.Context(), id); err != nil || u.Tasks != 0 {
		t.Errorf("before the start: %+v, %v", u, err)
	}
	if err := r.Start(t.Context(), id, dir, nil); err != nil {
		t.Fatalf("%+v", err)
	}
	for _, state := range []string{"running", "paused"} {
		var u Usage
		var pids []int32
		for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
			var errUsage, err error
			u, errUsage = c.Usage(t.Context(), id)
			pids, err = c.Processes(t.Context(), id)
			if err := errors.Join(err, errUsage); err != nil {
				t.Fatal(err)
			}
			if u.Tasks == 2 && u.CPU[id] > 0 && u.Memory > 0 && len(u.CPU) == 1 && len(pids) == 2 {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s: %+v, pids %v; want two tasks of %s alone, with memory and time", state, u, pids, id)
			}
		}
		if state == "running" {
			if err := c.Pause(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	var remote *RemoteError
	if _, err := c.Usage(t.Context(), "another"); !errors.As(err, &remote) {
		t.Errorf("usage of an unknown container: %v", err)
	}
}

func TestContractUpdate(t *testing.T) {
	limit := int64(512 << 20)
	memory := &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &limit}}
	r, id, dir, _ := bootSpec(t, func(s *specs.Spec) { s.Linux.Resources = memory }, "/bin/sleep", "1000")
	if err := r.Start(t.Context(), id, dir, nil); err != nil {
		t.Fatalf("%+v", err)
	}
	limit = 256 << 20
	if err := r.Update(t.Context(), id, dir, memory); err != nil {
		t.Fatalf("%+v", err)
	}
	for _, path := range []string{"/sys/fs/cgroup/memory/" + id + "/memory.limit_in_bytes", "/sys/fs/cgroup/" + id + "/memory.max"} {
		if data, err := os.ReadFile(filepath.Clean(path)); err == nil {
			if got := strings.TrimSpace(string(data)); got != "268435456" {
				t.Errorf("%s: %s", path, got)
			}
			return
		}
	}
	t.Error("the sandbox has no memory cgroup")
}
