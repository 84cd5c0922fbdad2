package stdio

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"brig/internal/journal"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// journalInput follows a journal from its beginning: a process has one shim, so nobody
// followed it before. What the process has taken is released, which lets more come.
type journalInput struct {
	stdin
	from     *journal.Reader
	starting sync.Once

	ctx      context.Context // ends with close
	stop     context.CancelFunc
	open     context.Context // ends with release
	complete context.CancelFunc
}

func openJournalInput(uri string, to stdin) (*journalInput, error) {
	path, err := journal.ParseInputURI(uri)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument)
	}
	from, err := journal.Open(path)
	if err != nil {
		return nil, err
	}
	j := &journalInput{stdin: to, from: from}
	j.ctx, j.stop = context.WithCancel(context.Background())
	j.open, j.complete = context.WithCancel(j.ctx)
	return j, nil
}

func (j *journalInput) start(interrupt func(unix.Signal)) error {
	j.starting.Do(func() { go j.follow(interrupt) })
	return nil
}

func (j *journalInput) follow(interrupt func(unix.Signal)) {
	defer j.from.Close()
	if err := j.copy(interrupt); err == nil && j.terminal {
		typeEOF(j.to)
	}
	j.stdin.close()
}

// copy returns nil at the end of the input. What a process does not take that has closed
// its stdin, or has ended, is dropped: its writers are not kept waiting for it.
func (j *journalInput) copy(interrupt func(unix.Signal)) error {
	buf := make([]byte, bufferBytes)
	taking := true
	for offset := int64(0); j.ctx.Err() == nil; {
		complete, err := j.isComplete() // before reading: then what is read is all
		if err != nil {
			return err
		}
		n, at, err := j.from.ReadAt(buf, offset)
		switch {
		case err == nil && at != offset:
			return fmt.Errorf("the input's bytes %d to %d are gone", offset, at)
		case err == nil:
			if taking {
				taking = j.deliver(buf[:n], interrupt) == nil
			}
			offset += int64(n)
			err = j.from.Release(offset)
		case errors.Is(err, io.EOF) && complete:
			return nil
		case errors.Is(err, io.EOF):
			if err = j.from.Wait(j.open, offset); j.open.Err() != nil {
				err = nil
			}
		}
		if err != nil {
			return err
		}
	}
	return j.ctx.Err()
}

func (j *journalInput) isComplete() (bool, error) {
	if j.open.Err() != nil {
		return true, nil
	}
	return j.from.Complete()
}

func (j *journalInput) release() { j.complete() }

func (j *journalInput) close() {
	j.stop()
	j.starting.Do(func() { j.from.Close() })
	j.stdin.close()
}
