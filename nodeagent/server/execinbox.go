package server

import (
	"context"

	"github.com/containerd/errdefs"
	"golang.org/x/sync/semaphore"

	brigv1 "brig/nodeagent/api/brig/v1"
	"brig/nodeagent/execs"
)

const (
	// inboxBytes and inboxPieces bound the stdin that waits for its program. A client that
	// keeps what is not acknowledged below them gets its signals through at any time.
	inboxBytes  = 2 * execs.MaxWrite
	inboxPieces = 1024
)

// inbox passes stdin on beside the other things that a client says, so that a program that
// does not read can still be signalled.
type inbox struct {
	c      *conversation
	pieces chan *brigv1.ExecInput
	bytes  *semaphore.Weighted
}

func newInbox(c *conversation) *inbox {
	return &inbox{c: c, pieces: make(chan *brigv1.ExecInput, inboxPieces), bytes: semaphore.NewWeighted(inboxBytes)}
}

// put a piece in, when there is room.
func (in *inbox) put(ctx context.Context, piece *brigv1.ExecInput) error {
	if n := len(piece.GetData()); n > execs.MaxWrite {
		return invalid("%d bytes of stdin at once: at most %d", n, execs.MaxWrite)
	}
	if _, err := offsetOf(piece.GetOffset()); err != nil {
		return err
	}
	if err := in.bytes.Acquire(ctx, int64(len(piece.GetData()))); err != nil {
		return context.Cause(ctx)
	}
	select {
	case in.pieces <- piece:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// close it: nothing more is put in.
func (in *inbox) close() { close(in.pieces) }

// pass everything on, until it is closed. For a program that has ended, or that takes no
// stdin any more, it goes on without doing anything.
func (in *inbox) pass(ctx context.Context) error {
	over := false
	for piece := range in.all(ctx) {
		if !over {
			err := in.write(ctx, piece)
			if over = in.c.exec.HasEnded() && errdefs.IsFailedPrecondition(err); err != nil && !over {
				return err
			}
		}
		in.bytes.Release(int64(len(piece.GetData())))
	}
	if over || !in.c.endsStdin || ctx.Err() != nil {
		return nil
	}
	return in.end(ctx)
}

func (in *inbox) all(ctx context.Context) func(yield func(*brigv1.ExecInput) bool) {
	return func(yield func(*brigv1.ExecInput) bool) {
		for {
			select {
			case piece, ok := <-in.pieces:
				if !ok || !yield(piece) {
					return
				}
			case <-ctx.Done():
				return
			}
		}
	}
}

func (in *inbox) write(ctx context.Context, piece *brigv1.ExecInput) error {
	acknowledged, err := in.c.exec.Write(ctx, int64(piece.GetOffset()), piece.GetData(), piece.GetEof())
	if err != nil {
		return err
	}
	return in.c.send(&brigv1.ExecStreamResponse{
		Message: &brigv1.ExecStreamResponse_StdinAcknowledged{StdinAcknowledged: uint64(acknowledged)},
	})
}

// end stdin where it is.
func (in *inbox) end(ctx context.Context) error {
	offset, err := in.c.exec.Acknowledged()
	if err != nil {
		return err
	}
	if _, err = in.c.exec.Write(ctx, offset, nil, true); in.c.exec.HasEnded() {
		return nil
	}
	return err
}
