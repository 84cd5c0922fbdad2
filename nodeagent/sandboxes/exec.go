package sandboxes

import (
	"context"

	"brig/internal/sandbox"
	"brig/nodeagent/execs"
	"brig/nodeagent/record"
)

// StartExec runs a program in a sandbox, or finds the one that has its id. The caller
// holds it, and must leave it.
func (m *Manager) StartExec(ctx context.Context, rec record.Record, s execs.Spec) (*execs.Exec, error) {
	if err := rec.CheckExecEnv(s.Env); err != nil {
		return nil, err
	}
	return m.execs.Start(ctx, m.around(rec), s)
}

// FindExec finds one that runs, or that is kept. The caller holds it, and must leave it.
func (m *Manager) FindExec(ctx context.Context, rec record.Record, id string) (*execs.Exec, error) {
	return m.execs.Find(ctx, m.around(rec), id)
}

// RunExec runs a program to its end, with as much of its output as there is room for.
func (m *Manager) RunExec(ctx context.Context, rec record.Record, s execs.Spec, stdin []byte, room execs.Room) (execs.Result, error) {
	if err := rec.CheckExecEnv(s.Env); err != nil {
		return execs.Result{}, err
	}
	return m.execs.Run(ctx, m.around(rec), s, stdin, room)
}

// around is the sandbox of an exec, which may have ended.
func (m *Manager) around(rec record.Record) execs.Sandbox {
	k, err := m.running(rec.ID)
	if k == nil {
		k = m.keeper(rec.ID)
	}
	if k != nil {
		return m.inside(k, err)
	}
	ended := make(chan struct{})
	close(ended)
	return execs.Sandbox{ID: rec.ID, Owner: rec.Owner, Refusal: err, Ended: ended, Fate: m.fate(rec.ID)}
}

// inside is a sandbox that has a keeper. refusal is why nothing can be started in it.
func (m *Manager) inside(k *keeper, refusal error) execs.Sandbox {
	return execs.Sandbox{ID: k.id, Owner: k.owner, Refusal: refusal, Ended: k.ended, Fate: m.fate(k.id), Activity: k.activity}
}

func (m *Manager) fate(id sandbox.ID) func() (sandbox.Reason, *record.Exit) {
	return func() (sandbox.Reason, *record.Exit) {
		rec, err := m.store.Get(id)
		if err != nil {
			return "", nil
		}
		return rec.Ending, rec.Exit
	}
}
