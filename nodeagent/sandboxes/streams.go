package sandboxes

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/containerd/errdefs"

	"brig/internal/journal"
	"brig/nodeagent/record"
)

// The names of the journals in a sandbox's folder.
const (
	stdinFile  = "stdin"
	stdoutFile = "stdout"
	stderrFile = "stderr"
)

// Outputs are the journals of what a sandbox's program writes.
func (m *Manager) Outputs(r *record.Record) (stdout, stderr journal.Spec) {
	spec := journal.Spec{Max: r.JournalBytes, Block: r.Request.Block}
	if spec.Max == 0 { // made by a brigd that did not write it down
		spec.Max = m.cfg.Sandboxes.JournalBytes
	}
	stdout, stderr = spec, spec
	stdout.Path = filepath.Join(m.cfg.JournalDir(string(r.ID)), stdoutFile)
	stderr.Path = filepath.Join(m.cfg.JournalDir(string(r.ID)), stderrFile)
	return stdout, stderr
}

// ResizeTerminal tells a sandbox's program the size of its terminal.
func (m *Manager) ResizeTerminal(ctx context.Context, rec record.Record, size record.Size) error {
	if !rec.Request.TTY {
		return errdefs.ErrFailedPrecondition.WithMessage(fmt.Sprintf("sandbox %s was made without a terminal: create one with tty", rec.ID))
	}
	if size.Columns == 0 || size.Rows == 0 {
		return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("invalid size %d x %d: want at least 1 each", size.Columns, size.Rows))
	}
	k, err := m.running(rec.ID)
	if err != nil {
		return err
	}
	err = m.runtime.Resize(ctx, string(rec.ID), size.Columns, size.Rows)
	if err != nil && (isClosed(k.ended) || isClosed(k.exit) || errdefs.IsNotFound(err)) {
		return notRunning(rec.ID)
	}
	return err
}
