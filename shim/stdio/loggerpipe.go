package stdio

import (
	"errors"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"
)

// stallTime is how long a logger may read nothing while there is something to read.
const stallTime = 30 * time.Second

// loggerPipe leads to a logger. A program waits for a logger that is slow, but not for
// one that has stopped: its pipe is closed then, and the program goes on unlogged.
type loggerPipe struct {
	*os.File
	path  string
	stall time.Duration // 0: stallTime
}

func (p *loggerPipe) Write(b []byte) (written int, err error) {
	stall := p.stall
	if stall == 0 {
		stall = stallTime
	}
	for written < len(b) {
		if err := p.SetWriteDeadline(time.Now().Add(stall)); err != nil {
			return written, err
		}
		n, err := p.File.Write(b[written:])
		written += n
		switch {
		case err == nil:
		case errors.Is(err, os.ErrDeadlineExceeded) && n > 0:
		case errors.Is(err, os.ErrDeadlineExceeded):
			slog.Warn("a logger has stopped reading: its output is dropped", "logger", p.path, "patience", stall)
			return written, errors.Join(err, p.Close())
		default:
			return written, err
		}
	}
	return written, nil
}

// tail keeps the end of what is written to it.
type tail struct {
	mu   sync.Mutex
	kept []byte
}

const tailBytes = 1 << 10

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.kept = append(t.kept, b[max(0, len(b)-tailBytes):]...)
	t.kept = t.kept[max(0, len(t.kept)-tailBytes):]
	return len(b), nil
}

// line is the last one kept.
func (t *tail) line() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	text := strings.TrimSpace(string(t.kept))
	return strings.TrimSpace(text[strings.LastIndexByte(text, '\n')+1:])
}
