// Package program sees a program that was run in a sandbox through to its end: it
// passes its output on, ends it at its timeout or when nobody waits for it any more,
// and returns once everything that it wrote has been passed on.
package program

import (
	"context"
	"io"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"brig/internal/sandbox"
	"brig/nodeagent/record"
)

const (
	// silence is how long after a program's end its output may be silent before it is
	// taken for complete: a program that it left behind may hold the stream open.
	silence = time.Second
	// chatter is how long such a program is listened to that does not fall silent.
	chatter = 5 * time.Second
	// settleLook is how often settle looks.
	settleLook = 50 * time.Millisecond
)

// Process is a program that runs.
type Process interface {
	Wait(ctx context.Context) (status int, at time.Time, err error)
	Kill(ctx context.Context, signal syscall.Signal) error
}

// Stream is an output of a Process and where it goes. The reader ends with an error
// once it is closed.
type Stream struct {
	From io.ReadCloser
	To   io.Writer
}

// Run returns how p ended. A timeout of zero is none; ctx's end kills p. A stream
// whose writer fails is read on, so that p is not blocked by it, and ends p.
func Run(ctx context.Context, p Process, timeout time.Duration, streams ...Stream) (record.Exit, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var f flow
	var pumps sync.WaitGroup
	for _, s := range streams {
		pumps.Go(func() {
			if err := f.pump(s); err != nil {
				cancel(err)
			}
		})
	}
	exit, err := await(ctx, p, timeout)
	f.moved()
	f.settle(ctx, &pumps, streams)
	if cause := context.Cause(ctx); cause != nil {
		return record.Exit{}, cause
	}
	return exit, err
}

// await returns how p ended, ending it if it must.
func await(ctx context.Context, p Process, timeout time.Duration) (record.Exit, error) {
	waiting := context.WithoutCancel(ctx)
	var ending sandbox.Reason
	ended := make(chan func() (record.Exit, error), 1)
	go func() {
		status, at, err := p.Wait(waiting)
		ended <- func() (record.Exit, error) { return record.Resolve(status, at.UTC(), ending, false), err }
	}()
	var clock <-chan time.Time
	if timeout > 0 {
		timer := time.NewTimer(timeout)
		defer timer.Stop()
		clock = timer.C
	}
	gone := ctx.Done()
	for {
		select {
		case result := <-ended:
			return result()
		case <-clock:
			clock, ending = nil, sandbox.ReasonExecTimeout
			_ = p.Kill(waiting, syscall.SIGKILL) // if it had ended, Wait tells
		case <-gone:
			gone, ending = nil, sandbox.ReasonTerminated
			_ = p.Kill(waiting, syscall.SIGKILL)
		}
	}
}

// flow is what settle sees of the pumps.
type flow struct {
	last    atomic.Int64 // when the last byte moved
	writing atomic.Int32 // writes under way
}

func (f *flow) moved() { f.last.Store(time.Now().UnixNano()) }

func (f *flow) idle() time.Duration { return time.Since(time.Unix(0, f.last.Load())) }

// pump returns the writer's error, not the reader's: that one only means the end.
func (f *flow) pump(s Stream) error {
	buf := make([]byte, 32<<10)
	for {
		n, err := s.From.Read(buf)
		var failed error
		if n > 0 {
			f.writing.Add(1)
			_, failed = s.To.Write(buf[:n])
			f.moved()
			f.writing.Add(-1)
		}
		f.moved()
		if err != nil || failed != nil {
			return failed
		}
	}
}

// settle waits for the pumps, and closes the streams once all are silent, or have not
// been for too long. A writer that lets one wait is neither: behind it may be what the
// program wrote before its end. It does not outlast ctx.
func (f *flow) settle(ctx context.Context, pumps *sync.WaitGroup, streams []Stream) {
	done := make(chan struct{})
	go func() { pumps.Wait(); close(done) }()
	look := time.NewTicker(settleLook)
	defer look.Stop()
	for heard := time.Duration(0); heard < chatter && ctx.Err() == nil; {
		select {
		case <-done:
			return
		case <-ctx.Done():
		case <-look.C:
			heard += settleLook
		}
		waits := f.writing.Load() > 0
		if !waits && f.idle() >= silence {
			break
		}
		if waits && f.idle() >= settleLook {
			heard -= settleLook
		}
	}
	for _, s := range streams {
		_ = s.From.Close()
	}
	<-done
}
