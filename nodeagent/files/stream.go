package files

import (
	"context"
	"errors"

	"brig/internal/failpoint"
	"brig/nodeagent/files/wire"
	"brig/nodeagent/record"
)

// ReadRequest says what is read.
type ReadRequest struct {
	Path           string
	Offset, Length uint64 // bytes; Length 0: to the end
	// Archive asks for a tar archive of what is at Path.
	Archive bool
}

// Sink gets first Info, and then data, which is valid until it returns.
type Sink interface {
	Info(Info) error
	Data([]byte) error
}

// Read passes a file, or an archive, to sink. If the error is nil, all of it was.
func (f *Files) Read(ctx context.Context, rec record.Record, r ReadRequest, sink Sink) error {
	ctx, c, err := f.begin(ctx, rec, wire.Request{Op: wire.Read, Path: r.Path, Offset: r.Offset, Length: r.Length, Archive: r.Archive}, false)
	if err != nil {
		return err
	}
	defer c.close(ctx)
	first := true
	for total := uint64(0); ; {
		stop := c.within(stall) // the sink may take any time
		kind, payload, err := c.next(ctx)
		stop()
		switch {
		case err != nil:
			return err
		case kind == wire.KindInfo && first:
			var info Info
			if info, err = parseInfo(payload); err == nil {
				err = sink.Info(info)
			}
			first = false
		case kind == wire.KindData && !first:
			if total += uint64(len(payload)); r.Length > 0 && total > r.Length {
				return nonsense("with more than was asked for")
			}
			err = sink.Data(payload)
		default:
			if _, err := parseEnd(kind, payload); err != nil || !first {
				return err
			}
			return nonsense("nothing about the file")
		}
		if err != nil {
			return err
		}
	}
}

// WriteRequest says what is made.
type WriteRequest struct {
	Path string
	Mode uint32 // of a new file; 0: 0644
	// Archive: what comes is a tar archive.
	Archive bool
	Replace bool
}

// Write makes a file, or a tree of an archive, of what next returns until io.EOF. It
// returns the bytes of files written. Another error of next's breaks it off, and
// nothing is made; that error is returned.
func (f *Files) Write(ctx context.Context, rec record.Record, r WriteRequest, next func() ([]byte, error)) (uint64, error) {
	ctx, c, err := f.begin(ctx, rec, wire.Request{Op: wire.Write, Path: r.Path, Mode: r.Mode, Archive: r.Archive, Replace: r.Replace}, true)
	if err != nil {
		return 0, err
	}
	defer c.close(ctx)
	failpoint.Hit("files.begun")
	var end wire.End
	var fault error
	answered := make(chan struct{})
	go func() {
		defer close(answered)
		end, fault = c.answer(ctx)
		// brig-files reads no more, and nobody shall wait for that.
		_ = c.p.Stdin.Close()
	}()
	sent, err := c.send(next, answered)
	if err != nil && !errors.Is(err, errUnsent) {
		c.cancel(err)
		<-answered
		return 0, err
	}
	failpoint.Hit("files.sent")
	stop := c.within(settle)
	<-answered
	stop()
	failpoint.Hit("files.answered")
	switch {
	case fault != nil:
		return 0, fault
	case err != nil:
		return 0, nonsense("before everything was sent")
	case !r.Archive && end.Size != sent:
		return 0, nonsense("that it wrote another number of bytes")
	}
	return end.Size, nil
}

// answer reads the whole answer to a write.
func (c *call) answer(ctx context.Context) (wire.End, error) {
	kind, payload, err := c.next(ctx)
	if err != nil {
		return wire.End{}, err
	}
	return parseEnd(kind, payload)
}
