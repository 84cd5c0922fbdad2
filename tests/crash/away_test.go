package crash

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/errdefs"
)

// absence is how long containerd is away.
func absence() time.Duration {
	if *long {
		return time.Minute
	}
	return 3 * time.Second
}

// TestContainerdAway ends containerd while programs and execs end, are killed with
// their sentry, or lose their shim, and asks when it is back.
func TestContainerdAway(t *testing.T) {
	t.Parallel()
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		t.Run(sig.String(), func(t *testing.T) {
			t.Parallel()
			away(t, sig)
		})
	}
}

func away(t *testing.T, sig syscall.Signal) {
	n := launch(t)
	p := n.pod(t)
	type ending struct {
		*container
		code  uint32
		exact bool // the shim lives to tell it
	}
	const soon = "sleep 1.5; exit "
	all := map[string]ending{
		"ends":            {n.started(t, []string{"sh", "-c", soon + "7"}), 7, true},
		"ends in a pod":   {n.started(t, []string{"sh", "-c", soon + "8"}, in(p)), 8, true},
		"loses sentry":    {n.started(t, []string{"sleep", "1000"}), 137, true},
		"loses shim":      {n.started(t, []string{"sleep", "1000"}), 137, false},
		"ends, then shim": {n.started(t, []string{"sh", "-c", soon + "9"}), 9, false},
		"stays":           {n.started(t, []string{"sleep", "1000"}), 0, true},
		"stays in a pod":  {n.started(t, []string{"sleep", "1000"}, in(p)), 0, true},
	}
	created := n.container(t, []string{"true"})
	if err := created.create(n.call(t)); err != nil {
		t.Fatal(err)
	}
	if err := n.end(sig); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	kill := func(who, name string) {
		t.Helper()
		if pid := victims[who].find(n, all[name].id); pid == 0 || syscall.Kill(pid, syscall.SIGKILL) != nil {
			t.Errorf("no %s of %q to kill", who, name)
		}
	}
	kill("sentry", "loses sentry")
	kill("shim", "loses shim")
	time.Sleep(2 * time.Second)
	kill("shim", "ends, then shim")
	time.Sleep(absence() - time.Since(began))
	if err := n.start(); err != nil {
		t.Fatal(err)
	}
	for name, e := range all {
		if e.code != 0 && e.exact { // containerd tells of the others before it listens
			n.events.want(t, e.id, e.code)
		}
		eventually(t, settleTime, func() error { return e.is(t, name, e.code, e.exact) })
	}
	code, err := created.run(n.call(t))
	if err != nil || code != 0 {
		t.Errorf("a task created before: status %d, %v", code, err)
	}
	for _, name := range []string{"stays", "stays in a pod"} {
		if code, err := all[name].execAgain(t); err != nil || code != 5 {
			t.Errorf("exec in what %s: status %d, %v", name, code, err)
		}
	}
	for name, e := range all {
		if err := e.remove(); err != nil {
			t.Errorf("remove what %s: %v", name, err)
		}
		wantNothingLeft(t, n, e.id)
	}
}

// is tells whether the task of c has ended with code; 0: runs.
func (c *container) is(t *testing.T, name string, code uint32, exact bool) error {
	task, err := c.Task(c.n.call(t), nil)
	if err != nil {
		if !exact && errdefs.IsNotFound(err) {
			return nil
		}
		return fmt.Errorf("%s: %w", name, err)
	}
	c.task = task
	status, err := task.Status(c.n.call(t))
	want := client.Stopped
	if code == 0 {
		want = client.Running
	}
	if err != nil || status.Status != want || status.ExitStatus != code {
		return fmt.Errorf("%s: %s with status %d (%w), want %s with %d", name, status.Status, status.ExitStatus, err, want, code)
	}
	return nil
}

// execAgain loads the task anew and runs a program in it.
func (c *container) execAgain(t *testing.T) (uint32, error) {
	task, err := c.Task(c.n.call(t), nil)
	if err != nil {
		return 0, err
	}
	c.task = task
	return c.exec(c.n.call(t), "sh", "-c", "exit 5")
}
