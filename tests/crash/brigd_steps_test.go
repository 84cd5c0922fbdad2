package crash

import (
	"bufio"
	"context"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	brigv1 "brig/nodeagent/api/brig/v1"
	testnode "brig/tests/node"
)

// operation is something that brigd dies in the middle of.
type operation struct {
	name string
	// prepare makes the sandbox that it is done to; nil: it needs none.
	prepare func(t *testing.T, a *agent) *brigv1.Sandbox
	// do may be called again after any doubt, with the same key, and then succeeds.
	do func(ctx context.Context, a *agent, s *brigv1.Sandbox, key string) error
	// atomic looks, before it is done again, whether it was done whole or not at all.
	atomic func(t *testing.T, a *agent, s *brigv1.Sandbox, key string)
	// done looks whether it was done in the end.
	done func(t *testing.T, a *agent, s *brigv1.Sandbox, key string)
	// clear removes what it leaves beside the sandbox that it was done to.
	clear func(t *testing.T, a *agent, s *brigv1.Sandbox, key string)
}

var operations = []operation{
	{name: "create", do: doCreate, atomic: wholeOrAbsent, done: created},
	{name: "exec", prepare: idle, do: doExec},
	{name: "exec with an id", prepare: idle, do: doKeptExec, done: ranOnce},
	{name: "write a file", prepare: idle, do: doWriteFile, atomic: fileIsWholeOrAbsent, done: fileIsWritten},
	{name: "pause", prepare: idle, do: doPause, atomic: runsUnlessPaused, done: pausedIs(true)},
	{name: "resume", prepare: paused, do: doResume, atomic: runsUnlessPaused, done: pausedIs(false)},
	{name: "snapshot", prepare: withFile, do: doSnapshot, atomic: snapshotWholeOrAbsent, done: snapshotTaken, clear: removeSnapshot},
	{name: "checkpoint", prepare: withFile, do: doCheckpoint(false), atomic: checkpointWholeOrAbsent, done: checkpointTaken, clear: removeCheckpoint},
	{name: "checkpoint and end", prepare: withFile, do: doCheckpoint(true), atomic: checkpointWholeOrAbsent, done: checkpointTaken, clear: removeCheckpoint},
	{name: "restore", prepare: kept, do: doRestore, atomic: wholeOrAbsent, done: restored, clear: removeRestored},
	{name: "remove a checkpoint", prepare: kept, do: doForgetKept, done: keptIsGone},
	{name: "open a tunnel", prepare: idle, do: doOpen, done: tunnelIs(true)},
	{name: "close a tunnel", prepare: withTunnel, do: doClose, done: tunnelIs(false)},
	{name: "change a policy", prepare: idle, do: doPolicy, atomic: oldOrNew, done: policyIsNew},
	{name: "terminate", prepare: idle, do: doTerminate, done: endedBy(brigv1.Reason_REASON_TERMINATED, 137)},
	{name: "end by itself", prepare: ending, do: doAwaitEnd, done: endedBy(brigv1.Reason_REASON_EXITED, 7)},
	{name: "delete", prepare: idle, do: doDelete, done: gone},
}

// TestBrigdKilledAtEveryStep kills brigd at every failpoint of every operation. After a
// restart the operation is whole or was never begun, the node holds what the records say,
// a bystander did not notice, and doing it again succeeds. Of the steps that several
// operations have in common the shorter run takes a third of the repetitions.
func TestBrigdKilledAtEveryStep(t *testing.T) {
	t.Parallel()
	a := launchAgent(t, testnode.Options{Failpoints: true})
	bystander := a.bystander(t)
	hit, ran := map[string]bool{}, 0
	for _, o := range operations {
		t.Run(o.name, func(t *testing.T) {
			ran++
			steps := a.stepsOf(t, o)
			t.Logf("%s: %s", o.name, strings.Join(steps, ", "))
			for i, step := range steps {
				if hit[step] && i%3 != 0 && !*long {
					continue
				}
				hit[step] = true
				a.dieAt(t, o, step)
			}
			a.unharmed(t, bystander)
		})
	}
	for _, point := range failpoints(t) {
		if ran == len(operations) && !hit[point] && !inRecovery(point) && !inPool(point) {
			t.Errorf("no operation comes to failpoint %s: have one do, or take it out", point)
		}
	}
}

// stepsOf does the operation undisturbed and returns what it came to.
func (a *agent) stepsOf(t *testing.T, o operation) []string {
	t.Helper()
	s := o.prepared(t, a)
	if _, err := a.Hits(); err != nil {
		t.Fatal(err)
	}
	key := "undisturbed-" + strings.ReplaceAll(o.name, " ", "-")
	if err := o.do(ask(t), a, s, key); err != nil {
		t.Fatalf("%s, undisturbed: %v", o.name, err)
	}
	a.converges(t, patience) // what goes on behind the answer belongs to it
	steps, err := a.Hits()
	if err != nil {
		t.Fatal(err)
	}
	if o.done != nil {
		o.done(t, a, s, key)
	}
	o.cleared(t, a, s, key)
	return slices.DeleteFunc(steps, inRecovery)
}

// inRecovery tells the points that brigd comes to by itself, at its start and
// periodically: they are TestBrigdKilledInRecovery's.
func inRecovery(point string) bool {
	return strings.HasPrefix(point, "recover.") || strings.HasPrefix(point, "reconcile.")
}

func (a *agent) dieAt(t *testing.T, o operation, step string) {
	t.Helper()
	s := o.prepared(t, a)
	key := strings.NewReplacer(" ", "-").Replace(o.name) + "-" + step
	if err := a.Arm(step); err != nil {
		t.Fatal(err)
	}
	asked := make(chan error, 1)
	go func() { asked <- o.do(ask(t), a, s, key) }()
	if err := a.Died(patience); err != nil {
		t.Fatalf("armed at %s of %s: %v", step, o.name, err)
	}
	acknowledged := <-asked == nil
	a.restart(t)
	if o.atomic != nil {
		o.atomic(t, a, s, key)
	}
	if acknowledged && o.done != nil {
		o.done(t, a, s, key)
	}
	if err := o.do(ask(t), a, s, key); err != nil {
		t.Errorf("%s after a death at %s: %v", o.name, step, err)
		return
	}
	if o.done != nil {
		o.done(t, a, s, key)
	}
	o.cleared(t, a, s, key)
	if t.Failed() {
		t.Fatalf("that was after a death at %s", step)
	}
}

func (o operation) prepared(t *testing.T, a *agent) *brigv1.Sandbox {
	t.Helper()
	if o.prepare == nil {
		return nil
	}
	return o.prepare(t, a)
}

// cleared leaves nothing of it.
func (o operation) cleared(t *testing.T, a *agent, s *brigv1.Sandbox, key string) {
	t.Helper()
	if o.clear != nil {
		o.clear(t, a, s, key)
	}
	a.clean(t, s, key)
}

// clean removes what an operation was done to, or made.
func (a *agent) clean(t *testing.T, s *brigv1.Sandbox, key string) {
	t.Helper()
	id := key
	if s != nil {
		id = s.GetId()
	}
	if err := a.remove(ask(t), id); err != nil {
		t.Errorf("remove %s: %v", id, err)
	}
}

// failpoints are all that the code has.
func failpoints(t *testing.T) (points []string) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", "-f", "{{if not .Standard}}{{.Dir}}{{end}}", "brig/nodeagent/brigd").Output()
	if err != nil {
		t.Fatal(err)
	}
	call := regexp.MustCompile(`failpoint\.Hit\("([^"]+)"\)`)
	for dirs := bufio.NewScanner(strings.NewReader(string(out))); dirs.Scan(); {
		if !strings.Contains(dirs.Text(), "/nodeagent/") {
			continue
		}
		files, err := filepath.Glob(filepath.Join(dirs.Text(), "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for _, found := range call.FindAllStringSubmatch(string(text), -1) {
				if slices.Contains(points, found[1]) {
					t.Errorf("failpoint %s is in the code twice", found[1])
				}
				points = append(points, found[1])
			}
		}
	}
	if len(points) == 0 {
		t.Fatal("the code has no failpoint")
	}
	return points
}

func idle(t *testing.T, a *agent) *brigv1.Sandbox {
	t.Helper()
	return a.made(t, &brigv1.CreateRequest{})
}

func withTunnel(t *testing.T, a *agent) *brigv1.Sandbox {
	t.Helper()
	return a.made(t, &brigv1.CreateRequest{Ports: []*brigv1.Port{aTunnel}})
}

// ending ends soon, when brigd is armed.
func ending(t *testing.T, a *agent) *brigv1.Sandbox {
	t.Helper()
	return a.made(t, &brigv1.CreateRequest{Argv: []string{"sh", "-c", "sleep 0.5; exit 7"}})
}

func (a *agent) made(t *testing.T, r *brigv1.CreateRequest) *brigv1.Sandbox {
	t.Helper()
	s, err := a.make(ask(t), r)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

var aTunnel = &brigv1.Port{SandboxPort: 80, Kind: brigv1.TunnelKind_TUNNEL_KIND_TCP}

func doCreate(ctx context.Context, a *agent, _ *brigv1.Sandbox, key string) error {
	_, err := a.make(ctx, &brigv1.CreateRequest{RequestId: key, Name: key, Ports: []*brigv1.Port{aTunnel}})
	return err
}

func wholeOrAbsent(t *testing.T, a *agent, _ *brigv1.Sandbox, key string) {
	t.Helper()
	s, err := a.get(ask(t), key)
	if connect.CodeOf(err) == connect.CodeNotFound {
		return
	}
	if err != nil || s.GetState() != brigv1.State_STATE_RUNNING {
		t.Errorf("an unacknowledged create is half there: %v, %v", s, err)
	}
}

func created(t *testing.T, a *agent, _ *brigv1.Sandbox, key string) {
	t.Helper()
	if err := a.runs(ask(t), key); err != nil {
		t.Errorf("what was created: %v", err)
	}
	a.converges(t, patience)
}

func doExec(ctx context.Context, a *agent, s *brigv1.Sandbox, _ string) error {
	return a.runs(ctx, s.GetId())
}

func doOpen(ctx context.Context, a *agent, s *brigv1.Sandbox, _ string) error {
	_, err := a.Tunnels.Open(ctx, connect.NewRequest(&brigv1.TunnelsOpenRequest{Sandbox: s.GetId(), Port: aTunnel}))
	return err
}

func doClose(ctx context.Context, a *agent, s *brigv1.Sandbox, _ string) error {
	_, err := a.Tunnels.Close(ctx, connect.NewRequest(&brigv1.TunnelsCloseRequest{Sandbox: s.GetId(), Port: aTunnel}))
	if connect.CodeOf(err) == connect.CodeNotFound {
		return nil // it was done before
	}
	return err
}

func tunnelIs(open bool) func(*testing.T, *agent, *brigv1.Sandbox, string) {
	return func(t *testing.T, a *agent, s *brigv1.Sandbox, _ string) {
		t.Helper()
		now, err := a.get(ask(t), s.GetId())
		if err != nil || (len(now.GetTunnels()) == 1) != open {
			t.Errorf("tunnels %v, %v; want one: %v", now.GetTunnels(), err, open)
		}
	}
}

var newPolicy = &brigv1.NetworkPolicy{CidrAllowlist: &brigv1.CidrList{Cidrs: []string{"192.0.2.0/24"}}}

func doPolicy(ctx context.Context, a *agent, s *brigv1.Sandbox, _ string) error {
	_, err := a.Sandboxes.SetNetworkPolicy(ctx, connect.NewRequest(&brigv1.SetNetworkPolicyRequest{Sandbox: s.GetId(), Network: newPolicy}))
	return err
}

func (a *agent) policy(t *testing.T, s *brigv1.Sandbox) *brigv1.GetNetworkPolicyResponse {
	t.Helper()
	res, err := a.Sandboxes.GetNetworkPolicy(ask(t), connect.NewRequest(&brigv1.GetNetworkPolicyRequest{Sandbox: s.GetId()}))
	if err != nil {
		t.Fatal(err)
	}
	return res.Msg
}

func oldOrNew(t *testing.T, a *agent, s *brigv1.Sandbox, _ string) {
	t.Helper()
	p := a.policy(t, s)
	old := p.GetGeneration() == 1 && proto.Equal(p.GetNetwork(), s.GetNetwork())
	changed := p.GetGeneration() == 2 && proto.Equal(p.GetNetwork(), newPolicy)
	if !old && !changed {
		t.Errorf("the policy is %v, neither the old one nor the new one", p)
	}
}

func policyIsNew(t *testing.T, a *agent, s *brigv1.Sandbox, _ string) {
	t.Helper()
	if p := a.policy(t, s); !proto.Equal(p.GetNetwork(), newPolicy) {
		t.Errorf("the policy is %v, want the new one", p)
	}
}

func doTerminate(ctx context.Context, a *agent, s *brigv1.Sandbox, _ string) error {
	_, err := a.Sandboxes.Terminate(ctx, connect.NewRequest(&brigv1.TerminateRequest{Sandbox: s.GetId()}))
	return err
}

func doAwaitEnd(ctx context.Context, a *agent, s *brigv1.Sandbox, _ string) error {
	_, err := a.Sandboxes.Wait(ctx, connect.NewRequest(&brigv1.WaitRequest{Sandbox: s.GetId()}))
	return err
}

func endedBy(reason brigv1.Reason, code int32) func(*testing.T, *agent, *brigv1.Sandbox, string) {
	return func(t *testing.T, a *agent, s *brigv1.Sandbox, _ string) {
		t.Helper()
		now, err := a.get(ask(t), s.GetId())
		if err != nil || now.GetExit().GetReason() != reason || now.GetExit().GetCode() != code {
			t.Errorf("it ended as %v, %v; want %v with %d", now.GetExit(), err, reason, code)
		}
	}
}

func doDelete(ctx context.Context, a *agent, s *brigv1.Sandbox, _ string) error {
	return a.remove(ctx, s.GetId())
}

func gone(t *testing.T, a *agent, s *brigv1.Sandbox, _ string) {
	t.Helper()
	if _, err := a.get(ask(t), s.GetId()); connect.CodeOf(err) != connect.CodeNotFound {
		t.Errorf("what was deleted: %v", err)
	}
}

// TestBrigdKilledInRecovery kills brigd in the recovery from a death, and in the recovery
// from that one, five deep and more.
func TestBrigdKilledInRecovery(t *testing.T) {
	t.Parallel()
	a := launchAgent(t, testnode.Options{Failpoints: true})
	bystander := a.bystander(t)
	undo := []string{
		"recover.standing", "teardown.tunnels", "remove.task", "remove.container", "remove.snapshot", "teardown.removed",
		"detach.disconnected", "forget.recorded", "recover.tunnels", "reconcile.swept", "reconcile.orphans",
		"reconcile.collected", "reconcile.expired",
	}
	chains := map[string][]string{
		"of a create": append([]string{"create.started"}, undo...),
		"undone":      {"create.made", "recover.undone"},
		"of an end":   {"exit.recorded", "recover.standing", "teardown.tunnels", "remove.task", "remove.snapshot", "teardown.removed", "detach.disconnected", "teardown.done", "reconcile.swept"},
	}
	for _, point := range failpoints(t) {
		if inRecovery(point) && !slices.Contains(slices.Concat(slices.Collect(maps.Values(chains))...), point) {
			t.Errorf("nobody dies at failpoint %s", point)
		}
	}
	for name, chain := range chains {
		t.Run(name, func(t *testing.T) {
			s := ending(t, a)
			if err := a.Arm(chain...); err != nil {
				t.Fatal(err)
			}
			if strings.HasPrefix(chain[0], "create.") {
				go func() { _ = doCreate(ask(t), a, nil, "deep") }()
			}
			for deep := range chain {
				if err := a.Died(patience); err != nil {
					armed, _ := a.Armed()
					t.Fatalf("%d deep, still armed at %v: %v", deep, armed, err)
				}
				if deep+1 < len(chain) {
					_ = a.Start() // it may die before it serves
				}
			}
			a.restart(t)
			a.unharmed(t, bystander)
			if armed, err := a.Armed(); len(armed) > 0 || err != nil {
				t.Errorf("still armed at %v, %v", armed, err)
			}
			if err := doCreate(ask(t), a, nil, "deep"); err != nil {
				t.Error(err)
			}
			created(t, a, nil, "deep")
			a.clean(t, nil, "deep")
			if err := doAwaitEnd(ask(t), a, s, ""); err != nil { // its program may outlast all of this
				t.Error(err)
			}
			endedBy(brigv1.Reason_REASON_EXITED, 7)(t, a, s, "")
		})
	}
}
