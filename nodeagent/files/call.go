package files

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/containerd/errdefs"

	"brig/nodeagent/files/wire"
	"brig/nodeagent/record"
)

const (
	// stall is how long a sandbox may take for the next part of an answer, or to take
	// the next part of what is sent.
	stall = time.Minute
	// settle is how long it may take to put in place what has arrived, and to remove
	// what was there.
	settle = 10 * time.Minute
	// goodbye is how long brig-files may take to clean up and end.
	goodbye = 5 * time.Second
	// releaseTimeout is how long its traces may take to be removed.
	releaseTimeout = 30 * time.Second
)

var errStalled = errdefs.ErrAborted.WithMessage("the sandbox broke off the call: nothing has moved for too long")

// call is one run of brig-files.
type call struct {
	f      *Files
	cancel context.CancelCauseFunc
	stop   func() bool // of what watches the context
	p      *Program
	in     *wire.Reader
	out    *wire.Writer // nil if nothing is sent
	words  []byte       // what it says on stderr, to maxText; read after heard
	heard  chan struct{}
	ended  bool // it has said its last word
}

// begin runs brig-files, and returns the context that a call's other methods take.
// close must be called.
func (f *Files) begin(ctx context.Context, rec record.Record, r wire.Request, write bool) (context.Context, *call, error) {
	if err := check(r); err != nil {
		return nil, nil, err
	}
	argument, err := r.Argument()
	if err != nil {
		return nil, nil, err
	}
	p, err := f.start(ctx, rec, argument, write)
	if err != nil {
		return nil, nil, err
	}
	c := &call{f: f, p: p, in: wire.NewReader(p.Stdout), heard: make(chan struct{})}
	if write {
		c.out = wire.NewWriter(p.Stdin)
	}
	ctx, c.cancel = context.WithCancelCause(ctx)
	// Whoever waits for a stream is woken when the client goes, or patience ends.
	c.stop = context.AfterFunc(ctx, c.closeStreams)
	go func() {
		defer close(c.heard)
		c.words, _ = io.ReadAll(io.LimitReader(p.Stderr, maxText))
		_, _ = io.Copy(io.Discard, p.Stderr) // nobody shall wait for its reader
	}()
	return ctx, c, nil
}

func (c *call) closeStreams() {
	// What has been closed says so.
	_ = c.p.Stdout.Close()
	if c.out != nil {
		_ = c.p.Stdin.Close()
	}
}

// within ends the call if the sandbox takes longer than patience until stop is called.
func (c *call) within(patience time.Duration) (stop func() bool) {
	return time.AfterFunc(patience, func() { c.cancel(errStalled) }).Stop
}

// next returns the next frame of the answer.
func (c *call) next(ctx context.Context) (wire.Kind, []byte, error) {
	kind, payload, err := c.in.Next()
	if err != nil {
		return 0, nil, c.broken(ctx, err)
	}
	if kind == wire.KindEnd || kind == wire.KindFailure {
		c.ended = true
	}
	return kind, payload, nil
}

// broken says why the answer breaks off.
func (c *call) broken(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nonsense("with " + printable(err.Error()))
	}
	_ = c.p.Stderr.Close()
	<-c.heard
	c.f.log.Debug("brig-files ended early", "stderr", printable(string(c.words)))
	return errdefs.ErrAborted.WithMessage("the sandbox broke off the call: brig-files ended before it had answered")
}

// close leaves nothing of the call. brig-files is waited for if it has said everything,
// or may have something to clean up.
func (c *call) close(ctx context.Context) {
	c.stop()
	defer c.cancel(nil)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseTimeout)
	defer cancel()
	if c.out != nil {
		_ = c.p.CloseStdin(ctx) // it may have ended
	}
	if c.ended || c.out != nil {
		waiting, cancel := context.WithTimeout(ctx, goodbye)
		_, _, _ = c.p.Wait(waiting) // Release ends it if it must
		cancel()
	}
	if err := c.p.Release(ctx); err != nil {
		c.f.log.Warn("remove an exec of a call for files", "err", err)
	}
	_ = c.p.Stderr.Close()
	<-c.heard
}
