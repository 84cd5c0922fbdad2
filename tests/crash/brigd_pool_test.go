package crash

import (
	"errors"
	"slices"
	"strconv"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"golang.org/x/sys/unix"

	brigv1 "brig/nodeagent/api/brig/v1"
	testnode "brig/tests/node"
)

// inPool tells the points that brigd comes to where sandboxes wait.
func inPool(point string) bool {
	return slices.ContainsFunc([]string{"pool.", "boot.", "claim."}, func(prefix string) bool { return strings.HasPrefix(point, prefix) })
}

// TestBrigdKilledInPool kills brigd at every step of making a sandbox that waits, of taking
// it and of removing it. After a restart the node holds what the records say, a create is
// whole or absent and can be repeated, what was taken is not taken again, and as many wait
// as before.
func TestBrigdKilledInPool(t *testing.T) {
	t.Parallel()
	a := launchAgent(t, testnode.Options{Failpoints: true, Overrides: "[pool]\nsize = 1\nmax = 1\n"})
	a.waiting(t)
	bystander := a.bystander(t)
	a.waiting(t)
	var points []string
	for _, point := range failpoints(t) {
		if inPool(point) {
			points = append(points, point)
		}
	}
	for _, point := range append(points, "create.recorded", "create.started") {
		t.Run(point, func(t *testing.T) {
			slot := a.waiting(t)
			if err := a.Arm(point); err != nil {
				t.Fatal(err)
			}
			leaves := point == "pool.leaving" || point == "pool.removed"
			if leaves { // because its kernel has died
				a.killSentry(t, slot)
			} else {
				go func() { _ = doCreate(ask(t), a, nil, point) }()
			}
			if err := a.Died(patience); err != nil {
				t.Fatal(err)
			}
			a.restart(t)
			if !leaves {
				wholeOrAbsent(t, a, nil, point)
				if err := doCreate(ask(t), a, nil, point); err != nil {
					t.Error(err)
				}
				created(t, a, nil, point)
			}
			if next := a.waiting(t); next == slot {
				t.Errorf("%s waits after it was used", slot)
			}
			a.converges(t, patience)
			a.clean(t, nil, point)
			a.unharmed(t, bystander)
		})
	}
}

// TestPoolIsTakenOver: what waits goes on to wait when brigd is killed while nothing
// happens, and is what the next create takes.
func TestPoolIsTakenOver(t *testing.T) {
	t.Parallel()
	a := launchAgent(t, testnode.Options{Overrides: "[pool]\nsize = 1\nmax = 1\n"})
	slot := a.waiting(t)
	if err := a.Kill(); err != nil {
		t.Fatal(err)
	}
	a.restart(t)
	if again := a.waiting(t); again != slot {
		t.Errorf("%s waited, and after a restart of brigd it is %s", slot, again)
	}
	if s := idle(t, a); s.GetId() != slot {
		t.Errorf("%s waited, and %s was made", slot, s.GetId())
	} else {
		a.clean(t, s, "")
	}
}

// waiting returns the one that waits, once one does.
func (a *agent) waiting(t *testing.T) (id string) {
	t.Helper()
	eventually(t, patience, func() error {
		info, err := a.Client.Node.Info(ask(t), connect.NewRequest(&brigv1.InfoRequest{}))
		if err == nil && info.Msg.GetWaiting() != 1 {
			err = errors.New("no sandbox waits")
		}
		if err == nil && !a.findWaiting(t, &id) {
			err = errors.New("none of the node's kernels is one that waits")
		}
		return err
	})
	return id
}

// findWaiting looks for the kernel of a sandbox that nobody has.
func (a *agent) findWaiting(t *testing.T, id *string) bool {
	t.Helper()
	for _, line := range a.census(t) {
		if kind, owner, _ := strings.Cut(line, " sb-"); kind == "process sentry" {
			*id, _, _ = strings.Cut("sb-"+owner, " ")
			if _, err := a.get(ask(t), *id); connect.CodeOf(err) == connect.CodeNotFound {
				return true
			}
		}
	}
	return false
}

func (a *agent) killSentry(t *testing.T, id string) {
	t.Helper()
	for _, line := range a.census(t) {
		if rest, ok := strings.CutPrefix(line, "process sentry "+id+" "); ok {
			pid, err := strconv.Atoi(rest)
			if err == nil {
				err = unix.Kill(pid, unix.SIGKILL)
			}
			if err != nil {
				t.Fatal(err)
			}
			return
		}
	}
	t.Fatalf("%s has no kernel", id)
}

func (a *agent) census(t *testing.T) []string {
	t.Helper()
	res, err := a.Client.Node.Verify(ask(t), connect.NewRequest(&brigv1.VerifyRequest{}))
	if err != nil {
		t.Fatal(err)
	}
	return res.Msg.GetCensus()
}
