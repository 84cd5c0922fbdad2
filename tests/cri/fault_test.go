package cri

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"brig/internal/require"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// processesOf are the command lines of the processes that name a pod.
func (n *node) processesOf(id string) map[int]string {
	found := n.processes()
	for pid, cmdline := range found {
		if !strings.Contains(cmdline, id) {
			delete(found, pid)
		}
	}
	return found
}

// processOf finds the pod's process that runs a program.
func (p *pod) processOf(program string) int {
	p.t.Helper()
	for pid := range p.n.processesOf(p.id) {
		exe, _ := os.Readlink(filepath.Join("/proc", fmt.Sprint(pid), "exe"))
		if filepath.Base(exe) == program {
			return pid
		}
	}
	p.t.Fatalf("the pod has no %s among %v", program, p.n.processesOf(p.id))
	return 0
}

// wantNotReady waits; while containerd cleans up after a shim, its answer is an error.
func (p *pod) wantNotReady() {
	p.t.Helper()
	eventually(p.t, func() error {
		r, err := p.n.PodSandboxStatus(call(p.t), &cri.PodSandboxStatusRequest{PodSandboxId: p.id})
		if s := r.GetStatus().GetState(); err != nil || s != cri.PodSandboxState_SANDBOX_NOTREADY {
			return fmt.Errorf("the pod is %v: %w", s, err)
		}
		return nil
	})
}

// TestSentryDies: the pod dies as a whole, and says so.
func TestSentryDies(t *testing.T) {
	under(t, gvisors, func(t *testing.T, n *node, handler string) {
		p := n.run(t, handler)
		one, two := p.start("one", "sleep", "1000"), p.start("two", "sleep", "1000")
		if err := syscall.Kill(p.processOf("gvisor_sentry"), syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		one.wantExit(137)
		two.wantExit(137)
		p.wantNotReady()
		if _, err := p.create(p.containerConfig("late", "true")); err == nil {
			t.Error("a container was made in a dead pod")
		}
	})
}

// TestShimDies: what it nursed dies with it.
func TestShimDies(t *testing.T) {
	under(t, gvisors, func(t *testing.T, n *node, handler string) {
		p := n.run(t, handler)
		one, two := p.start("one", "sleep", "1000"), p.start("two", "sleep", "1000")
		if err := syscall.Kill(p.processOf("containerd-shim-brig-v1"), syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		p.wantNotReady()
		for _, c := range []*container{one, two} {
			if s := c.exited(); s.GetExitCode() != 137 && s.GetExitCode() != 255 { // unknown, where the kubelet asks too late
				t.Errorf("%s exited with %d", c.config.GetMetadata().GetName(), s.GetExitCode())
			}
		}
		eventually(t, func() error {
			if left := n.processesOf(p.id); len(left) > 0 {
				return fmt.Errorf("a pod without a shim has the processes %v", left)
			}
			return nil
		})
	})
}

// TestContainerdRestarts, in order and by force, while a pod runs.
func TestContainerdRestarts(t *testing.T) {
	require.Net(t)
	require.Runsc(t)
	s := sharedNode{}
	err := s.start()
	t.Cleanup(func() {
		if err := s.close(); err != nil {
			t.Error(err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, handler := range all {
		t.Run(handler, func(t *testing.T) { restart(t, s.node, handler) })
	}
}

func restart(t *testing.T, n *node, handler string) {
	p := n.run(t, handler)
	long := p.start("long", "sh", "-c", "i=0; while :; do echo $i; i=$((i+1)); sleep 0.1; done")
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		if err := n.end(sig); err != nil {
			t.Fatal(err)
		}
		if err := n.start(); err != nil {
			t.Fatal(err)
		}
		if s := p.status().GetState(); s != cri.PodSandboxState_SANDBOX_READY {
			t.Fatalf("after %v of containerd the pod is %v", sig, s)
		}
		long.wantRunning()
		if got := long.sh("echo again"); got != "again\n" {
			t.Errorf("exec after a restart: %q", got)
		}
		lines := len(long.logged())
		eventually(t, func() error {
			if len(long.logged()) == lines {
				return fmt.Errorf("the log ends at %d lines", lines)
			}
			return nil
		})
	}
	p.start("new", "sh", "-c", "exit 4").wantExit(4)
	if _, err := n.StopContainer(call(t), &cri.StopContainerRequest{ContainerId: long.id}); err != nil {
		t.Fatal(err)
	}
	long.wantExit(137)
}
