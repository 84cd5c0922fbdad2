package execs

import (
	"context"
	"errors"
	"fmt"

	"github.com/containerd/errdefs"

	"brig/internal/failpoint"
	"brig/internal/journal"
)

// MaxWrite is how much of stdin is taken at once, in bytes.
const MaxWrite = 1 << 20

// Write adds data, whose first byte is the stream's byte offset, to stdin, but for what
// was acknowledged before; eof says that nothing follows. It waits, as long as ctx allows,
// while the program does not read. It returns the offset to go on from; an ErrOutOfRange
// tells it too. What is written to a program that has ended is an ErrFailedPrecondition.
func (x *Exec) Write(ctx context.Context, offset int64, data []byte, eof bool) (acknowledged int64, err error) {
	if len(data) > MaxWrite {
		return 0, invalid("%d bytes of stdin at once: at most %d", len(data), MaxWrite)
	}
	if !x.note.Stdin {
		return 0, errdefs.ErrFailedPrecondition.WithMessage(fmt.Sprintf("exec %s was started without stdin", x.id))
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(x.m.ctx, func() { cancel(ErrEnding) })()
	go func() {
		select {
		case <-x.ended:
			cancel(x.over())
		case <-ctx.Done():
		}
	}()
	select {
	case x.writing <- struct{}{}:
		defer func() { <-x.writing }()
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
	if acknowledged, err = x.append(ctx, offset, data, eof); err == nil && x.sb.Activity != nil {
		x.sb.Activity.Touch()
	}
	return acknowledged, err
}

func (x *Exec) over() error {
	return errdefs.ErrFailedPrecondition.WithMessage(fmt.Sprintf("exec %s has ended and reads no stdin", x.id))
}

// append is called with the token.
func (x *Exec) append(ctx context.Context, offset int64, data []byte, eof bool) (size int64, err error) {
	if isClosed(x.ended) {
		return 0, x.over()
	}
	if x.input == nil {
		if x.input, err = journal.OpenInput(x.folder.path(stdinFile)); err != nil {
			return 0, err
		}
	}
	size, err = x.input.Append(ctx, offset, data, eof)
	failpoint.Hit("exec.written")
	switch {
	case errors.Is(err, journal.ErrGap):
		err = errdefs.ErrOutOfRange.WithMessage(fmt.Sprintf("offset %d does not continue stdin: go on from %d", offset, size))
	case errors.Is(err, journal.ErrComplete):
		err = errdefs.ErrFailedPrecondition.WithMessage(fmt.Sprintf("stdin has ended at %d: nothing can follow", size))
	case err != nil:
		err = disk("write stdin", err)
	}
	return size, err
}

// Acknowledged is the offset of stdin to go on from; 0 without stdin.
func (x *Exec) Acknowledged() (int64, error) {
	if !x.note.Stdin {
		return 0, nil
	}
	r, err := journal.Open(x.folder.path(stdinFile))
	if err != nil {
		return 0, err
	}
	defer r.Close()
	return r.Size()
}
