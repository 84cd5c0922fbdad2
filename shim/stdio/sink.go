package stdio

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"brig/internal/journal"

	"github.com/containerd/errdefs"
	"github.com/containerd/fifo"
	"golang.org/x/sys/unix"
)

// sink is where output goes. A sink that has ended takes bytes and drops them.
type sink struct {
	mu   sync.Mutex
	w    io.WriteCloser // nil: ended
	hold io.Closer      // a reader of the FIFO: without one, a client's detaching would fail writes
}

// openSink opens what uri names.
func openSink(ctx context.Context, uri string) (*sink, error) {
	scheme, rest, ok := strings.Cut(uri, "://")
	if !ok {
		scheme, rest = "fifo", uri
	}
	switch scheme {
	case "fifo":
		if rest == "" || rest == os.DevNull {
			return new(sink), nil
		}
		return openFIFOSink(ctx, rest)
	case journal.Scheme:
		spec, err := journal.ParseURI(uri)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument)
		}
		w, err := journal.Create(spec)
		if err != nil {
			return nil, err
		}
		return &sink{w: w}, nil
	case "file":
		return openFileSink(uri)
	default:
		return nil, fmt.Errorf("output to %s://: brig takes FIFOs, file:// and journal://: %w", scheme, errdefs.ErrNotImplemented)
	}
}

func openFIFOSink(ctx context.Context, path string) (*sink, error) {
	if ok, err := fifo.IsFifo(path); err != nil {
		return nil, err
	} else if !ok {
		return nil, fmt.Errorf("%s is not a FIFO: %w", path, errdefs.ErrInvalidArgument)
	}
	w, err := fifo.OpenFifo(ctx, path, unix.O_WRONLY, 0) // waits for the reader
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

func openFileSink(uri string) (*sink, error) {
	u, err := url.Parse(uri)
	if err != nil || u.Host != "" || !filepath.IsAbs(u.Path) {
		return nil, fmt.Errorf("output to %q: want file:///path: %w", uri, errdefs.ErrInvalidArgument)
	}
	if err := os.MkdirAll(filepath.Dir(u.Path), 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(u.Path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	return &sink{w: f}, nil
}

// write delivers p, however long the reader takes. It must not hold the lock while
// it does: end has to be able to stop it.
func (s *sink) write(p []byte) {
	s.mu.Lock()
	w := s.w
	s.mu.Unlock()
	if w == nil {
		return
	}
	_, _ = w.Write(p) // an error is a reader that has gone, or a full disk: what can be kept later is
}

// readerMayGo makes writing without a reader fail from now on.
func (s *sink) readerMayGo() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.hold != nil {
		s.hold.Close()
		s.hold = nil
	}
}

// end closes the sink; its reader sees the end.
func (s *sink) end() {
	s.readerMayGo()
	s.mu.Lock()
	w := s.w
	s.w = nil
	s.mu.Unlock()
	if w != nil {
		w.Close()
	}
}
