package sandboxes

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"brig/internal/journal"
	"brig/nodeagent/record"
)

// MaxInput is how much one write of stdin may bring.
const MaxInput = 1 << 20

// Input is a part of a stdin.
type Input struct {
	Offset int64 // of the first byte of Data, since the program started
	Data   []byte
	EOF    bool // nothing comes after Data
}

// WriteInput brings a sandbox's program a part of its stdin, but for what it was brought
// before, and returns how much it has by then: that much is kept, whoever dies now. It
// waits while the program has more than enough to read, until ctx or the program ends.
func (m *Manager) WriteInput(ctx context.Context, rec record.Record, in Input) (acknowledged int64, err error) {
	if len(in.Data) > MaxInput {
		return 0, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("data has %d bytes: at most %d at once", len(in.Data), MaxInput))
	}
	if !rec.Request.Stdin {
		return 0, errdefs.ErrFailedPrecondition.WithMessage(fmt.Sprintf("sandbox %s was made without stdin: create one with it", rec.ID))
	}
	k, err := m.running(rec.ID)
	if err != nil {
		return 0, err
	}
	k.activity.Touch()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		select {
		case <-k.ended:
			cancel(notRunning(rec.ID))
		case <-ctx.Done():
		}
	}()
	input, err := journal.OpenInput(filepath.Join(m.cfg.JournalDir(string(rec.ID)), stdinFile))
	if err != nil {
		return 0, err
	}
	defer input.Close()
	acknowledged, err = input.Append(ctx, in.Offset, in.Data, in.EOF)
	return acknowledged, InputFault(in, acknowledged, err)
}

// InputFault says in the API's words why an Append has failed, if it has.
func InputFault(in Input, acknowledged int64, err error) error {
	switch {
	case errors.Is(err, journal.ErrGap) && in.Offset <= acknowledged:
		return errdefs.ErrOutOfRange.WithMessage(fmt.Sprintf("stdin cannot end at %d: %d bytes are acknowledged; go on from offset %d", in.Offset+int64(len(in.Data)), acknowledged, acknowledged))
	case errors.Is(err, journal.ErrGap):
		return errdefs.ErrOutOfRange.WithMessage(fmt.Sprintf("offset %d is beyond what is acknowledged: go on from offset %d", in.Offset, acknowledged))
	case errors.Is(err, journal.ErrComplete):
		return errdefs.ErrFailedPrecondition.WithMessage(fmt.Sprintf("stdin has ended at offset %d", acknowledged))
	case errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT):
		return errdefs.ErrResourceExhausted.WithMessage(fmt.Sprintf("the node's disk is full: %d bytes of stdin are acknowledged; send the rest later, from offset %d", acknowledged, acknowledged))
	}
	return err
}
