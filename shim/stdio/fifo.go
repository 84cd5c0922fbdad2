package stdio

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/containerd/errdefs"
	"github.com/containerd/fifo"
	"golang.org/x/sys/unix"
)

// openFIFOSink waits for the reader, as long as ctx allows.
func openFIFOSink(ctx context.Context, path string) (*sink, error) {
	if ok, err := fifo.IsFifo(path); err != nil {
		return nil, err
	} else if !ok {
		return nil, fmt.Errorf("%s is not a FIFO: %w", path, errdefs.ErrInvalidArgument)
	}
	w, err := fifo.OpenFifo(ctx, path, unix.O_WRONLY, 0) // waits for the reader
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("wait for a reader of %s: %w", path, err)
	}
	hold, err := openFIFO(path, os.O_RDONLY)
	if err != nil {
		w.Close()
		return nil, err
	}
	return &sink{w: w, hold: hold}, nil
}

// openFIFO never blocks. Opening for writing needs a reader.
func openFIFO(path string, flag int) (*os.File, error) {
	f, err := os.OpenFile(path, flag|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	if fi, err := f.Stat(); err != nil || fi.Mode().Type() != os.ModeNamedPipe {
		return nil, errors.Join(err, f.Close(), fmt.Errorf("%s is not a FIFO", path))
	}
	return f, nil
}
