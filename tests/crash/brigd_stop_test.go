package crash

import (
	"syscall"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	brigv1 "brig/nodeagent/api/brig/v1"
	testnode "brig/tests/node"
)

// stopped is how long brigd stands still.
func stopped() time.Duration {
	if *long {
		return time.Minute
	}
	return 4 * time.Second
}

// TestBrigdStopped: brigd stands still and goes on. A deadline that passed meanwhile is
// kept at once, an end that nobody saw is told as it was, and nothing else happens.
func TestBrigdStopped(t *testing.T) {
	t.Parallel()
	a := launchAgent(t, testnode.Options{})
	bystander := a.bystander(t)
	late := a.made(t, &brigv1.CreateRequest{Timeout: durationpb.New(2 * time.Second)})
	ends := a.made(t, &brigv1.CreateRequest{Argv: []string{"sh", "-c", "sleep 1; exit 7"}})
	if err := syscall.Kill(a.PID(), syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	time.Sleep(stopped())
	if err := syscall.Kill(a.PID(), syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	eventually(t, recovery, func() error {
		_, err := a.get(ask(t), late.GetId())
		return err
	})
	for _, s := range []*brigv1.Sandbox{late, ends} {
		if err := doAwaitEnd(ask(t), a, s, ""); err != nil {
			t.Error(err)
		}
	}
	endedBy(brigv1.Reason_REASON_TIMEOUT, 124)(t, a, late, "")
	endedBy(brigv1.Reason_REASON_EXITED, 7)(t, a, ends, "")
	a.unharmed(t, bystander)
	a.converges(t, patience)
}
