package execs

import (
	"context"

	"brig/nodeagent/output"
)

// Offsets of the output streams, in bytes since the program started.
type Offsets struct{ Stdout, Stderr int64 }

// Read hands every piece of output from the offsets on to send, one at a time. With follow
// it goes on until the program has ended; else what is there now is all. Of an exec that
// blocks, what was sent counts as read.
func (x *Exec) Read(ctx context.Context, from Offsets, follow bool, send func(output.Piece) error) error {
	r := output.Request{
		Dir:     string(x.folder),
		Offsets: map[string]int64{stdoutFile: from.Stdout},
	}
	if !x.note.TTY {
		r.Offsets[stderrFile] = from.Stderr
	}
	if x.note.Block {
		r.Read = x.journal(stdoutFile).Read // but for the path, that of stderr is the same
	}
	if follow {
		r.Ended = x.ended
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(x.m.ctx, func() { cancel(ErrEnding) })()
	return output.Send(ctx, r, send)
}
