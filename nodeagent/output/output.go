// Package output reads back what a program has written: its journals, from any offset,
// while it runs and after.
package output

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"brig/internal/journal"
)

// step is how much is released at once, of a journal that is large enough.
const step = 1 << 20

// Stream is one journal, from an offset on.
type Stream struct {
	Name    string // of its pieces
	Journal journal.Spec
	Offset  int64

	released int64
}

// Piece of a stream. A jump of Offset means that older bytes were dropped; at the end of
// what is there such a piece may be empty.
type Piece struct {
	Stream string
	Offset int64
	Data   []byte
}

// Send reads journals and hands every piece to send, one at a time, until all was sent or
// ctx ends. What was sent of a journal that blocks is released. A journal that is not
// there has no bytes. Once ended is closed no byte will follow; nil: what is there now is
// all.
func Send(ctx context.Context, streams []Stream, ended <-chan struct{}, send func(Piece) error) error {
	var mu sync.Mutex // one piece at a time
	serial := func(p Piece) error {
		mu.Lock()
		defer mu.Unlock()
		return send(p)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	errs := make([]error, 0, len(streams))
	for _, s := range streams {
		wg.Go(func() {
			if err := follow(ctx, s, ended, serial); err != nil {
				cancel(err)
				mu.Lock()
				errs = append(errs, err)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if len(errs) > 0 {
		return errs[0]
	}
	return nil
}

func follow(ctx context.Context, s Stream, ended <-chan struct{}, send func(Piece) error) error {
	j, err := journal.Open(s.Journal.Path)
	if errors.Is(err, os.ErrNotExist) {
		return nil // it never came to write anything
	}
	if err != nil {
		return err
	}
	defer j.Close()
	growing, cancel := context.WithCancel(ctx) // until no more will come
	defer cancel()
	go func() {
		select {
		case <-ended:
			cancel()
		case <-growing.Done():
		}
	}()
	for {
		// Looked at before reading: what was written before the end is then read.
		last := ended == nil || isClosed(ended)
		if err = s.drain(ctx, j, send); err != nil {
			return err
		}
		if last {
			return nil
		}
		if err := j.Wait(growing, s.Offset); growing.Err() == nil && err != nil {
			return err
		}
	}
}

// drain sends what there is.
func (s *Stream) drain(ctx context.Context, j *journal.Reader, send func(Piece) error) error {
	if size, err := j.Size(); err != nil || size == s.Offset {
		return cmp.Or(err, context.Cause(ctx))
	}
	for ctx.Err() == nil {
		if more, err := s.one(j, send); err != nil || !more {
			return err
		}
	}
	return context.Cause(ctx)
}

// one piece, if there is one.
func (s *Stream) one(j *journal.Reader, send func(Piece) error) (more bool, err error) {
	buf, free := borrow()
	defer free()
	n, at, err := j.ReadAt(buf, s.Offset)
	if errors.Is(err, io.EOF) && at == s.Offset {
		return false, nil
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return false, err
	}
	if err := send(Piece{Stream: s.Name, Offset: at, Data: buf[:n]}); err != nil {
		return false, fmt.Errorf("send output: %w", err)
	}
	s.Offset = at + int64(n)
	return true, s.release(j)
}

// release what may be, a good deal at a time: for the file system each is work.
func (s *Stream) release(j *journal.Reader) error {
	upTo := s.Journal.Read(s.Offset) / journal.Chunk * journal.Chunk // no more is released
	if !s.Journal.Block || upTo-s.released < min(step, s.Journal.Max/4) {
		return nil
	}
	s.released = upTo
	return j.Release(upTo)
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
