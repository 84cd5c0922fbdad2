package execs

import (
	"context"
	"errors"
	"os"

	"brig/internal/journal"
	"brig/nodeagent/output"
)

// Offsets of the output streams, in bytes since the program started.
type Offsets struct{ Stdout, Stderr int64 }

// Read hands every piece of output from the offsets on to send, one at a time. With follow
// it goes on until the program has ended; else what is there now is all. Of an exec that
// blocks, what was sent counts as read.
func (x *Exec) Read(ctx context.Context, from Offsets, follow bool, send func(output.Piece) error) error {
	streams := []output.Stream{{Name: stdoutFile, Journal: x.journal(stdoutFile), Offset: from.Stdout}}
	if !x.note.TTY {
		streams = append(streams, output.Stream{Name: stderrFile, Journal: x.journal(stderrFile), Offset: from.Stderr})
	}
	var ended <-chan struct{}
	if follow {
		ended = x.ended
		if err := x.awaitJournals(streams); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(x.m.ctx, func() { cancel(ErrEnding) })()
	return output.Send(ctx, streams, ended, func(p output.Piece) error {
		err := send(p)
		if err == nil {
			x.m.Figures.ExecOutput(len(p.Data))
		}
		return err
	})
}

// awaitJournals makes those that nothing was written to yet, to be followed. What has ended
// writes nothing more.
func (x *Exec) awaitJournals(streams []output.Stream) error {
	for _, s := range streams {
		if isClosed(x.ended) {
			return nil
		}
		if err := journal.Await(s.Journal); err != nil && !errors.Is(err, os.ErrNotExist) { // removed with its sandbox
			return disk("make the journal of an exec", err)
		}
	}
	return nil
}

func (x *Exec) journal(name string) journal.Spec {
	return journal.Spec{Path: x.folder.path(name), Max: x.note.Max, Block: x.note.Block}
}
