package journal

import (
	"fmt"
	"os"
	"time"
)

// room is how many of want bytes may be written now: all, or with Block what the bound
// leaves. It waits until there is some.
func (w *Writer) room(want int64) (int64, error) {
	if !w.spec.Block {
		return want, nil
	}
	for {
		bound := w.spec.Max + w.lift.Load()
		if room := bound - (w.size - w.start); room > 0 {
			return min(room, want), nil
		}
		if err := w.awaitRelease(bound); err != nil {
			return 0, err
		}
	}
}

// awaitRelease returns when the journal may be less than full. A disk that does not tell
// is asked again: nothing is lost for that.
func (w *Writer) awaitRelease(bound int64) error {
	wake, disarm := w.user.arm(w.file)
	defer disarm()
	start, err := startOf(w.file, w.start)
	if err != nil {
		return w.pause(retry)
	}
	if w.start = start; w.size-start < bound {
		return nil
	}
	select {
	case <-wake:
	case <-w.lifted:
	case <-w.closed:
		return fmt.Errorf("append to journal: %w", os.ErrClosed)
	}
	return nil
}

func (w *Writer) pause(d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-w.closed:
		return fmt.Errorf("append to journal: %w", os.ErrClosed)
	}
}

// shrink drops some of the oldest bytes on a disk that is full. It tells whether there
// were any.
func (w *Writer) shrink() bool {
	const step = 16 * Chunk
	end := min(chunks(w.size), w.start+step)
	if end <= w.start || punch(w.file, w.start, end) != nil {
		return false
	}
	w.start = end
	return true
}

// lose drops p, which comes next in the stream. Nothing is kept from before, so that the
// hole begins at 0, and nothing is written until the stream's offset is a multiple of
// Chunk: the file system would take the block around another offset for written bytes.
// Until the hole is made the file is behind the stream, and everything that comes is lost.
func (w *Writer) lose(p []byte) (n int, err error) {
	end := w.size + int64(len(p))
	if next := chunks(w.size) + Chunk; w.lost && end > next {
		end = next
	}
	n = int(end - w.size)
	w.lost, w.size = true, end
	if err := punch(w.file, 0, chunks(end+Chunk-1)); err != nil {
		return n, nil
	}
	if err := w.file.Truncate(end); err != nil {
		return n, nil
	}
	if end%Chunk == 0 {
		w.lost, w.start = false, end
	}
	return n, nil
}
