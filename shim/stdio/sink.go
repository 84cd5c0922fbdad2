package stdio

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"os"
	"path"
	"strings"
	"sync"

	"brig/internal/journal"

	"github.com/containerd/errdefs"
)

// sink is where output goes. A sink that has ended takes bytes and drops them.
type sink struct {
	mu   sync.Mutex
	w    io.WriteCloser // nil: ended
	hold io.Closer      // a reader of the FIFO: without one, a client's detaching would fail writes
}

// openSink opens what uri names. A logger is opened by openLogger instead: it takes
// two streams.
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
	case "file":
		u, err := parseURI(uri)
		if err != nil {
			return nil, err
		}
		return openFileSink(u.Path)
	case journal.Scheme:
		return openJournalSink(uri)
	}
	return nil, fmt.Errorf("output to %s://: brig takes FIFOs, file://, binary://, binary-v2:// and journal://: %w", scheme, errdefs.ErrNotImplemented)
}

// parseURI takes only what names one path of this host.
func parseURI(uri string) (*url.URL, error) {
	u, err := url.Parse(uri)
	if err != nil || u.Host != "" || !path.IsAbs(u.Path) {
		return nil, fmt.Errorf("output to %q: want a scheme and an absolute path, such as file:///path: %w", uri, errdefs.ErrInvalidArgument)
	}
	return u, nil
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
