package cri

import (
	"fmt"
	"sync"
	"testing"
	"time"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// TestContainersShareANetwork is what a pod is for.
func TestContainersShareANetwork(t *testing.T) {
	under(t, all, func(t *testing.T, n *node, handler string) {
		p := n.run(t, handler)
		if s := p.status(); s.GetState() != cri.PodSandboxState_SANDBOX_READY || s.GetNetwork().GetIp() == "" || s.GetRuntimeHandler() != handler {
			t.Errorf("the pod's status is %v", s)
		}
		server := p.start("server", "sh", "-c", "mkdir /www; echo hello from $HOSTNAME > /www/index.html; exec httpd -f -p 127.0.0.1:8080 -h /www")
		client := p.start("client", "sh", "-c", "until wget -qO- http://localhost:8080/ 2>/dev/null; do sleep 0.1; done")
		if got, want := client.output(), "hello from "+p.config.GetHostname()+"\n"; got != want {
			t.Errorf("the client got %q, want %q", got, want)
		}
		client.wantExit(0)
		server.wantRunning()
	})
}

// TestSidecar: containers of a pod join and leave without the others.
func TestSidecar(t *testing.T) {
	under(t, all, func(t *testing.T, n *node, handler string) {
		p := n.run(t, handler)
		first := p.start("first", "sleep", "1000")
		sidecar := p.start("sidecar", "sh", "-c", "exit 7")
		sidecar.wantExit(7)
		first.wantRunning()
		if got := first.sh("echo still here"); got != "still here\n" {
			t.Errorf("exec beside a dead sidecar: %q", got)
		}
		// What the kubelet does to restart it.
		if _, err := n.RemoveContainer(call(t), &cri.RemoveContainerRequest{ContainerId: sidecar.id}); err != nil {
			t.Fatal(err)
		}
		for attempt := uint32(1); attempt <= 3; attempt++ {
			again := p.startWith(func(c *cri.ContainerConfig) { c.Metadata.Attempt = attempt }, "sidecar", "sh", "-c", fmt.Sprintf("exit %d", attempt))
			again.wantExit(int32(attempt))
		}
		// All gone, and the pod stays.
		if _, err := n.StopContainer(call(t), &cri.StopContainerRequest{ContainerId: first.id}); err != nil {
			t.Fatal(err)
		}
		first.wantExit(137)
		if s := p.status().GetState(); s != cri.PodSandboxState_SANDBOX_READY {
			t.Errorf("a pod without containers is %v", s)
		}
		p.start("last", "true").wantExit(0)
	})
}

// TestExitStatus: the program's, a signal's, and that of one that cannot be started.
func TestExitStatus(t *testing.T) {
	under(t, all, func(t *testing.T, n *node, handler string) {
		p := n.run(t, handler)
		p.start("ok", "true").wantExit(0)
		p.start("status", "sh", "-c", "exit 255").wantExit(255)
		p.start("signal", "sh", "-c", "sh -c 'kill -9 $$'; exit $?").wantExit(137)
		missing, err := p.create(p.containerConfig("missing", "/no/such/program"))
		if err != nil {
			t.Fatal(err)
		}
		if err := missing.start(); err == nil {
			t.Error("a program that is not there was started")
		}
		if s := missing.exited(); s.GetReason() != "StartError" || s.GetExitCode() != 128 {
			t.Errorf("a container whose program is not there: %s %d %s", s.GetReason(), s.GetExitCode(), s.GetMessage())
		}
	})
}

// TestStopWithGrace: SIGTERM first, SIGKILL when the time is over.
func TestStopWithGrace(t *testing.T) {
	under(t, all, func(t *testing.T, n *node, handler string) {
		p := n.run(t, handler)
		const loop = "; echo ready; while :; do sleep 0.1; done"
		polite := p.start("polite", "sh", "-c", "trap 'exit 3' TERM"+loop)
		stubborn := p.start("stubborn", "sh", "-c", "trap '' TERM"+loop)
		for _, c := range []*container{polite, stubborn} {
			eventually(t, func() error {
				if len(c.logged()) == 0 {
					return fmt.Errorf("%s is not ready", c.config.GetMetadata().GetName())
				}
				return nil
			})
			if _, err := n.StopContainer(call(t), &cri.StopContainerRequest{ContainerId: c.id, Timeout: 2}); err != nil {
				t.Fatal(err)
			}
		}
		polite.wantExit(3)
		stubborn.wantExit(137)
	})
}

// TestStopAndRemove: each may come twice, and what stopped is told so. That nothing is
// left is for the end of the suite to see.
func TestStopAndRemove(t *testing.T) {
	under(t, all, func(t *testing.T, n *node, handler string) {
		p := n.run(t, handler)
		c := p.start("sleeper", "sleep", "1000")
		p.stop()
		c.wantExit(137)
		if s := p.status(); s.GetState() != cri.PodSandboxState_SANDBOX_NOTREADY {
			t.Errorf("a stopped pod is %v", s.GetState())
		}
		if left := n.processesOf(p.id); len(left) > 1 { // the shim answers still
			t.Errorf("a stopped pod has the processes %v", left)
		}
		p.stop()
		p.remove()
		if _, err := n.PodSandboxStatus(call(t), &cri.PodSandboxStatusRequest{PodSandboxId: p.id}); err == nil {
			t.Error("a removed pod has a status")
		}
		eventually(t, func() error {
			if left := n.processesOf(p.id); len(left) > 0 {
				return fmt.Errorf("a removed pod has the processes %v", left)
			}
			return nil
		})
	})
}

// TestEmptyPod has never had a container.
func TestEmptyPod(t *testing.T) {
	under(t, all, func(t *testing.T, n *node, handler string) {
		p := n.run(t, handler)
		p.stop()
		p.remove()
	})
}

// TestRemoveRunning takes everything at once, as `crictl rmp -f` does.
func TestRemoveRunning(t *testing.T) {
	under(t, all, func(t *testing.T, n *node, handler string) {
		p := n.run(t, handler)
		p.start("one", "sleep", "1000")
		if _, err := p.create(p.containerConfig("never-started", "true")); err != nil {
			t.Fatal(err)
		}
		p.remove()
	})
}

// TestPodsAtOnce: five of them, each with its own network.
func TestPodsAtOnce(t *testing.T) {
	under(t, all, func(t *testing.T, n *node, handler string) {
		var wg sync.WaitGroup
		for range 5 {
			config := n.podConfig(t)
			wg.Go(func() {
				p, err := n.try(t, handler, config)
				if err != nil {
					t.Errorf("run a pod: %v", err)
					return
				}
				c, err := p.create(p.containerConfig("server", "sh", "-c", "echo "+p.config.GetHostname()+" | nc -l -p 9000 & sleep 0.2; nc 127.0.0.1 9000"))
				if err != nil {
					t.Errorf("create: %v", err)
					return
				}
				if err := c.start(); err != nil {
					t.Errorf("start: %v", err)
					return
				}
				deadline := time.Now().Add(patience)
				for c.status().GetState() != cri.ContainerState_CONTAINER_EXITED && time.Now().Before(deadline) {
					time.Sleep(50 * time.Millisecond)
				}
				if got := c.logged(); len(got) != 1 || got[0] != "stdout F "+p.config.GetHostname() {
					t.Errorf("on its own port 9000 a pod met %q, want %q", got, p.config.GetHostname())
				}
			})
		}
		wg.Wait()
	})
}
