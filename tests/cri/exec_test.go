package cri

import (
	"slices"
	"strings"
	"testing"
	"time"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// TestLogs are in the format that kubelets rotate and `kubectl logs` reads.
func TestLogs(t *testing.T) {
	under(t, all, func(t *testing.T, n *node, handler string) {
		p := n.run(t, handler)
		c := p.start("writer", "sh", "-c", "echo one; sleep 0.2; echo two >&2; sleep 0.2; printf no-newline")
		c.wantExit(0)
		want := []string{"stdout F one", "stderr F two", "stdout P no-newline"}
		eventually(t, func() error { return nil })
		if got := c.logged(); !slices.Equal(got, want) && !slices.Equal(got, []string{"stdout F one", "stderr F two", "stdout F no-newline"}) {
			t.Errorf("the log is %q, want %q", got, want)
		}
	})
}

// TestExecSync is what probes and lifecycle hooks are.
func TestExecSync(t *testing.T) {
	under(t, all, func(t *testing.T, n *node, handler string) {
		p := n.run(t, handler)
		c := p.startWith(func(c *cri.ContainerConfig) {
			c.Envs, c.WorkingDir = []*cri.KeyValue{{Key: "COLOUR", Value: []byte("blue")}}, "/tmp"
		}, "target", "sleep", "1000")
		r := c.exec("sh", "-c", "echo out $COLOUR $PWD; echo err >&2; exit 9")
		if r.GetExitCode() != 9 || string(r.GetStdout()) != "out blue /tmp\n" || string(r.GetStderr()) != "err\n" {
			t.Errorf("exec: %v", r)
		}
		big := c.exec("sh", "-c", "head -c 1000000 /dev/zero | tr '\\0' x")
		if len(big.GetStdout()) != 1000000 {
			t.Errorf("exec gave %d bytes, want a million", len(big.GetStdout()))
		}
		if r, err := n.ExecSync(call(t), &cri.ExecSyncRequest{ContainerId: c.id, Cmd: []string{"/no/such/program"}}); err == nil && r.GetExitCode() == 0 {
			t.Errorf("exec of a program that is not there succeeded: %v", r)
		}
		began := time.Now()
		if _, err := n.ExecSync(call(t), &cri.ExecSyncRequest{ContainerId: c.id, Cmd: []string{"sleep", "1000"}, Timeout: 1}); err == nil || !strings.Contains(err.Error(), "timeout") {
			t.Errorf("exec beyond its time: %v", err)
		}
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("exec with a timeout of one second took %v", took)
		}
		if left := c.sh("ps | grep -c '[s]leep 1000' || true"); left != "1\n" {
			t.Errorf("after a timeout %s processes sleep, want the container's own one", left)
		}
	})
}
