package sandboxes

import (
	"context"
	"crypto/rand"

	"github.com/containerd/errdefs"

	"brig/nodeagent/engine"
	"brig/nodeagent/record"
)

// Program is what to run in a running sandbox.
type Program struct {
	Argv    []string
	Env     map[string]string
	Workdir string
	TTY     bool
	Stdin   bool
}

// Exec runs a program in a sandbox. The process must be released.
func (m *Manager) Exec(ctx context.Context, rec record.Record, p Program) (*engine.Process, error) {
	if err := record.CheckArgv(p.Argv, true); err != nil {
		return nil, err
	}
	if err := rec.CheckExecEnv(p.Env); err != nil {
		return nil, err
	}
	if err := record.CheckWorkdir(p.Workdir); err != nil {
		return nil, err
	}
	k, err := m.running(rec.ID)
	if err != nil {
		return nil, err
	}
	process, err := m.runtime.Exec(ctx, engine.Program{
		Sandbox: string(rec.ID),
		ID:      "x-" + rand.Text()[:16],
		Argv:    p.Argv,
		Env:     p.Env,
		Workdir: p.Workdir,
		TTY:     p.TTY,
		Stdin:   p.Stdin,
	})
	if err != nil && (isClosed(k.ended) || isClosed(k.exit) || errdefs.IsNotFound(err)) {
		return nil, notRunning(rec.ID)
	}
	return process, err
}
