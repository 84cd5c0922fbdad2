// Package output reads back what a program has written: its journals, from any offset,
// while it runs and after.
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

// chunk is the most that is sent at once: enough that what every piece costs does not
// matter.
const chunk = 256 << 10

// buffers of a chunk. Most streams have nothing to say, and need none.
var buffers = sync.Pool{New: func() any { return new([chunk]byte) }}

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
	// Read tells what may be released once all up to an offset was sent; nil: nothing.
	Read func(sent int64) (upTo int64)
}

// Send reads the journals and hands every piece to send, one at a time, until all
// was sent or ctx ends.
func Send(ctx context.Context, r Request, send func(Piece) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	// waiting ends with the stream, too: it is what readers wait with.
	waiting, ended := context.WithCancel(ctx)
	defer ended()
	if r.Ended != nil {
		go func() {
			select {
			case <-r.Ended:
				ended()
			case <-waiting.Done():
			}
		}()
	}
	var mu sync.Mutex // one piece at a time
	serial := func(p Piece) error {
		mu.Lock()
		defer mu.Unlock()
		return send(p)
	}
	var wg sync.WaitGroup
	for name, offset := range r.Offsets {
		s := stream{Request: r, name: name, offset: offset, send: serial}
		wg.Go(func() {
			if err := s.follow(ctx, waiting); err != nil {
				cancel(err)
			}
		})
	}
	wg.Wait()
	return context.Cause(ctx)
}

// stream that is read.
type stream struct {
	Request
	name   string
	offset int64
	send   func(Piece) error
}

func (s *stream) follow(ctx, waiting context.Context) error {
	j, err := journal.Open(filepath.Join(s.Dir, s.name))
	if errors.Is(err, os.ErrNotExist) {
		return nil // it never came to write anything
	}
	if err != nil {
		return err
	}
	defer j.Close()
	for {
		// Looked at before reading: what was written before the end is then read.
		last := s.Ended == nil || isClosed(s.Ended)
		if err = s.drain(ctx, j); err != nil || last {
			return err
		}
		err := j.Wait(waiting, s.offset)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil && waiting.Err() == nil:
			return err
		}
	}
}

// drain sends what there is.
func (s *stream) drain(ctx context.Context, j *journal.Reader) error {
	if size, err := j.Size(); err != nil || size <= s.offset {
		return err
	}
	buf := buffers.Get().(*[chunk]byte)
	defer buffers.Put(buf)
	for ctx.Err() == nil {
		n, at, err := j.ReadAt(buf[:], s.offset)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := s.send(Piece{Stream: s.name, Offset: at, Data: buf[:n]}); err != nil {
			return fmt.Errorf("send output: %w", err)
		}
		s.offset = at + int64(n)
		if s.Read != nil {
			if err := j.Release(s.Read(s.offset)); err != nil {
				return err
			}
		}
	}
	return context.Cause(ctx)
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
