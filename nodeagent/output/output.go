// Package output reads back what a sandbox's program has written: its two journals,
// from any offset, while it runs and after.
package output

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"

	"brig/internal/journal"
)

// chunk is the most that is sent at once.
const chunk = 64 << 10

// Piece of a stream. A jump of Offset means that older bytes were dropped.
type Piece struct {
	Stream string // the journal's file name
	Offset int64
	Data   []byte
}

// Request says what to read.
type Request struct {
	Dir     string
	Offsets map[string]int64 // by journal
	// Ended is closed once no byte will follow; nil: what is there now is all.
	Ended <-chan struct{}
}

// Send reads the journals and hands every piece to send, one at a time, until all
// was sent or ctx ends.
func Send(ctx context.Context, r Request, send func(Piece) error) error {
	var mu sync.Mutex // one piece at a time
	serial := func(p Piece) error {
		mu.Lock()
		defer mu.Unlock()
		return send(p)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	errs := make([]error, 0, len(r.Offsets))
	for name, offset := range r.Offsets {
		wg.Go(func() {
			if err := follow(ctx, r, name, offset, serial); err != nil {
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

func follow(ctx context.Context, r Request, name string, offset int64, send func(Piece) error) error {
	j, err := journal.Open(filepath.Join(r.Dir, name))
	if errors.Is(err, os.ErrNotExist) {
		return nil // it never came to write anything
	}
	if err != nil {
		return err
	}
	defer j.Close()
	for {
		// Looked at before reading: what was written before the end is then read.
		last := r.Ended == nil || isClosed(r.Ended)
		if offset, err = drain(ctx, j, name, offset, send); err != nil {
			return err
		}
		if last {
			return nil
		}
		if err := await(ctx, j, offset, r.Ended); err != nil {
			return err
		}
	}
}

// drain sends what there is.
func drain(ctx context.Context, j *journal.Reader, name string, offset int64, send func(Piece) error) (int64, error) {
	buf := make([]byte, chunk)
	for ctx.Err() == nil {
		n, at, err := j.ReadAt(buf, offset)
		if errors.Is(err, io.EOF) {
			return offset, nil
		}
		if err != nil {
			return offset, err
		}
		if err := send(Piece{Stream: name, Offset: at, Data: buf[:n]}); err != nil {
			return offset, fmt.Errorf("send output: %w", err)
		}
		offset = at + int64(n)
	}
	return offset, context.Cause(ctx)
}

// await returns when there is more, or no more will come.
func await(ctx context.Context, j *journal.Reader, offset int64, ended <-chan struct{}) error {
	waiting, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-ended:
			cancel()
		case <-waiting.Done():
		}
	}()
	err := j.Wait(waiting, offset)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
