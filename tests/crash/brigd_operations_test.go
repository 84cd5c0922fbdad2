package crash

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"connectrpc.com/connect"

	brigv1 "brig/nodeagent/api/brig/v1"
)

// output runs a shell's script in a sandbox and returns what it says.
func (a *agent) output(t *testing.T, id, script string) string {
	t.Helper()
	res, err := a.Exec.Run(ask(t), connect.NewRequest(&brigv1.ExecRunRequest{
		Exec: &brigv1.ExecSpec{Sandbox: id, Argv: []string{"sh", "-c", script}},
	}))
	if err != nil || res.Msg.GetExit().GetCode() != 0 {
		t.Fatalf("%q in %s: %v, %v", script, id, res, err)
	}
	return string(res.Msg.GetStdout())
}

// unless drops an error of the class: what was to be done is done.
func unless(class connect.Code, err error) error {
	if connect.CodeOf(err) == class {
		return nil
	}
	return err
}

// doKeptExec runs a program that would leave a trace of each time it is run.
func doKeptExec(ctx context.Context, a *agent, s *brigv1.Sandbox, key string) error {
	res, err := a.Exec.Run(ctx, connect.NewRequest(&brigv1.ExecRunRequest{
		Exec:  &brigv1.ExecSpec{Sandbox: s.GetId(), Argv: []string{"sh", "-c", "echo ran >> /ran; cat"}},
		Stdin: []byte("said\n"), ExecId: key,
	}))
	if err != nil {
		return err
	}
	if m := res.Msg; string(m.GetStdout()) != "said\n" || m.GetExit().GetCode() != 0 {
		return fmt.Errorf("the exec's end is %v", m)
	}
	return nil
}

func ranOnce(t *testing.T, a *agent, s *brigv1.Sandbox, _ string) {
	t.Helper()
	if got := a.output(t, s.GetId(), "cat /ran"); got != "ran\n" {
		t.Errorf("the program left %q, as if it had not run once", got)
	}
}

func content(key string) string { return strings.Repeat(key+"\n", 1000) }

func doWriteFile(ctx context.Context, a *agent, s *brigv1.Sandbox, key string) error {
	stream := a.Files.Write(ctx)
	err := stream.Send(&brigv1.FilesWriteRequest{Message: &brigv1.FilesWriteRequest_Start{
		Start: &brigv1.FilesWriteStart{Sandbox: s.GetId(), Path: "/written"},
	}})
	if err == nil {
		err = stream.Send(&brigv1.FilesWriteRequest{Message: &brigv1.FilesWriteRequest_Data{Data: []byte(content(key))}})
	}
	_, errAnswer := stream.CloseAndReceive() // tells more than what could not be sent
	if errAnswer != nil {
		return errAnswer
	}
	return err
}

func fileIsWholeOrAbsent(t *testing.T, a *agent, s *brigv1.Sandbox, key string) {
	t.Helper()
	if got := a.output(t, s.GetId(), "if test -e /written; then cat /written; fi"); got != "" && got != content(key) {
		t.Errorf("a file of %d bytes has %d: %.100q", len(content(key)), len(got), got)
	}
}

func fileIsWritten(t *testing.T, a *agent, s *brigv1.Sandbox, key string) {
	t.Helper()
	if got := a.output(t, s.GetId(), "cat /written"); got != content(key) {
		t.Errorf("a file of %d bytes has %d: %.100q", len(content(key)), len(got), got)
	}
}

func doPause(ctx context.Context, a *agent, s *brigv1.Sandbox, _ string) error {
	_, err := a.Sandboxes.Pause(ctx, connect.NewRequest(&brigv1.PauseRequest{Sandbox: s.GetId()}))
	return err
}

func doResume(ctx context.Context, a *agent, s *brigv1.Sandbox, _ string) error {
	_, err := a.Sandboxes.Resume(ctx, connect.NewRequest(&brigv1.ResumeRequest{Sandbox: s.GetId()}))
	return err
}

func paused(t *testing.T, a *agent) *brigv1.Sandbox {
	t.Helper()
	s := idle(t, a)
	if err := doPause(ask(t), a, s, ""); err != nil {
		t.Fatal(err)
	}
	return s
}

// runsUnlessPaused, or ended.
func runsUnlessPaused(t *testing.T, a *agent, s *brigv1.Sandbox, _ string) {
	t.Helper()
	now, err := a.get(ask(t), s.GetId())
	if err == nil && !now.GetPaused() && now.GetState() == brigv1.State_STATE_RUNNING {
		err = a.runs(ask(t), s.GetId())
	}
	if err != nil {
		t.Error(err)
	}
}

// pausedIs wants a sandbox to be paused, or not, and then to go on.
func pausedIs(want bool) func(*testing.T, *agent, *brigv1.Sandbox, string) {
	return func(t *testing.T, a *agent, s *brigv1.Sandbox, _ string) {
		t.Helper()
		now, err := a.get(ask(t), s.GetId())
		if err == nil && now.GetPaused() != want {
			t.Errorf("paused is %v, want %v", now.GetPaused(), want)
		}
		if err == nil {
			err = doResume(ask(t), a, s, "")
		}
		if err == nil {
			err = a.runs(ask(t), s.GetId())
		}
		if err != nil {
			t.Error(err)
		}
	}
}

// withFile has a file that is to be kept.
func withFile(t *testing.T, a *agent) *brigv1.Sandbox {
	t.Helper()
	s := idle(t, a)
	a.output(t, s.GetId(), "echo kept > /kept")
	return s
}

// hasFile wants a sandbox that goes on from what was kept to have it.
func (a *agent) hasFile(t *testing.T, r *brigv1.CreateRequest) {
	t.Helper()
	res, err := a.Sandboxes.Create(ask(t), connect.NewRequest(r))
	if err != nil {
		t.Errorf("create from what was kept: %v", err)
		return
	}
	id := res.Msg.GetSandbox().GetId()
	if got := a.output(t, id, "cat /kept"); got != "kept\n" {
		t.Errorf("what was kept is %q", got)
	}
	if err := a.remove(ask(t), id); err != nil {
		t.Error(err)
	}
}

func doSnapshot(ctx context.Context, a *agent, s *brigv1.Sandbox, key string) error {
	_, err := a.Sandboxes.Snapshot(ctx, connect.NewRequest(&brigv1.SnapshotRequest{Sandbox: s.GetId(), Name: key}))
	return unless(connect.CodeAlreadyExists, err)
}

// snapshotWholeOrAbsent, while the sandbox goes on.
func snapshotWholeOrAbsent(t *testing.T, a *agent, s *brigv1.Sandbox, key string) {
	t.Helper()
	res, err := a.Images.List(ask(t), connect.NewRequest(&brigv1.ImagesListRequest{}))
	if err != nil {
		t.Fatal(err)
	}
	for _, image := range res.Msg.GetImages() {
		if strings.Contains(image.GetName(), "/"+key+":") {
			snapshotTaken(t, a, s, key)
		}
	}
	runsUnlessPaused(t, a, s, key)
}

func snapshotTaken(t *testing.T, a *agent, _ *brigv1.Sandbox, key string) {
	t.Helper()
	a.hasFile(t, &brigv1.CreateRequest{Image: "snapshot.brig/0/" + key + ":latest"})
}

func removeSnapshot(t *testing.T, a *agent, _ *brigv1.Sandbox, key string) {
	t.Helper()
	_, err := a.Images.Remove(ask(t), connect.NewRequest(&brigv1.ImagesRemoveRequest{Image: "snapshot.brig/0/" + key + ":latest"}))
	if err != nil {
		t.Errorf("remove snapshot %s: %v", key, err)
	}
}

// doCheckpoint keeps a sandbox, which goes on unless it is to end.
func doCheckpoint(exit bool) func(context.Context, *agent, *brigv1.Sandbox, string) error {
	return func(ctx context.Context, a *agent, s *brigv1.Sandbox, key string) error {
		_, err := a.Sandboxes.Checkpoint(ctx, connect.NewRequest(&brigv1.CheckpointRequest{Sandbox: s.GetId(), Name: key, Exit: exit}))
		if connect.CodeOf(err) != connect.CodeFailedPrecondition || !exit {
			return unless(connect.CodeAlreadyExists, err)
		}
		// It has ended, as it was to; whether it is kept is looked at.
		return nil
	}
}

func (a *agent) checkpoints(t *testing.T) (names []string) {
	t.Helper()
	res, err := a.Sandboxes.ListCheckpoints(ask(t), connect.NewRequest(&brigv1.ListCheckpointsRequest{}))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range res.Msg.GetCheckpoints() {
		names = append(names, c.GetName())
	}
	return names
}

// checkpointWholeOrAbsent, while the sandbox goes on.
func checkpointWholeOrAbsent(t *testing.T, a *agent, s *brigv1.Sandbox, key string) {
	t.Helper()
	for _, name := range a.checkpoints(t) {
		if name == key {
			checkpointTaken(t, a, s, key)
		}
	}
	runsUnlessPaused(t, a, s, key)
}

func checkpointTaken(t *testing.T, a *agent, _ *brigv1.Sandbox, key string) {
	t.Helper()
	a.hasFile(t, &brigv1.CreateRequest{FromCheckpoint: key})
}

func removeCheckpoint(t *testing.T, a *agent, s *brigv1.Sandbox, key string) {
	t.Helper()
	if err := doRemoveCheckpoint(ask(t), a, s, key); err != nil {
		t.Errorf("remove checkpoint %s: %v", key, err)
	}
}

// doRemoveCheckpoint is done if there is none.
func doRemoveCheckpoint(ctx context.Context, a *agent, _ *brigv1.Sandbox, key string) error {
	_, err := a.Sandboxes.RemoveCheckpoint(ctx, connect.NewRequest(&brigv1.RemoveCheckpointRequest{Name: key}))
	return unless(connect.CodeNotFound, err)
}

// kept is a sandbox with a checkpoint that has its id for a name.
func kept(t *testing.T, a *agent) *brigv1.Sandbox {
	t.Helper()
	s := withFile(t, a)
	if err := doCheckpoint(false)(ask(t), a, s, s.GetId()); err != nil {
		t.Fatal(err)
	}
	return s
}

func doForgetKept(ctx context.Context, a *agent, s *brigv1.Sandbox, _ string) error {
	return doRemoveCheckpoint(ctx, a, s, s.GetId())
}

func keptIsGone(t *testing.T, a *agent, s *brigv1.Sandbox, _ string) {
	t.Helper()
	for _, name := range a.checkpoints(t) {
		if name == s.GetId() {
			t.Errorf("checkpoint %s was removed and is listed", name)
		}
	}
}

func doRestore(ctx context.Context, a *agent, s *brigv1.Sandbox, key string) error {
	_, err := a.Sandboxes.Create(ctx, connect.NewRequest(&brigv1.CreateRequest{
		RequestId: key, Name: key, FromCheckpoint: s.GetId(), Ports: []*brigv1.Port{aTunnel},
	}))
	return err
}

func restored(t *testing.T, a *agent, s *brigv1.Sandbox, key string) {
	t.Helper()
	created(t, a, s, key)
	if got := a.output(t, key, "cat /kept"); got != "kept\n" {
		t.Errorf("what was kept is %q", got)
	}
}

func removeRestored(t *testing.T, a *agent, s *brigv1.Sandbox, key string) {
	t.Helper()
	a.clean(t, nil, key)
	removeCheckpoint(t, a, s, s.GetId())
}
