package activity

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"time"

	"brig/nodeagent/clock"
)

// busyWord stands in a mark for the time of what is busy.
const busyWord = "busy"

// markSize is fixed, so that writing it again needs no room on a full disk.
const markSize = 24

// mark is a file with the last of a tracker. It is not synced: it is to survive brigd,
// not the machine, with which its sandbox ends.
type mark struct {
	f   *os.File
	err error // the last write's
}

// Keep has t write every change to the file at path from now on. If the file is there,
// t goes on from it first: idle since what it says, or, if the sandbox was busy when its
// brigd died, since now. A file that cannot be read is an error and changes nothing.
// Close gives the file back.
func (t *Tracker) Keep(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("open the mark of a sandbox's activity: %w", err)
	}
	since, err := read(f)
	if err != nil {
		return errors.Join(fmt.Errorf("read the mark of a sandbox's activity: %w", err), f.Close())
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if since > 0 && t.busy == 0 {
		t.since = since
	}
	t.keep = &mark{f: f}
	t.write()
	if t.keep.err != nil {
		err := t.keep.err
		t.keep = nil
		return errors.Join(fmt.Errorf("write the mark of a sandbox's activity: %w", err), f.Close())
	}
	return nil
}

// Close stops writing; the file stays. It returns the first error of a write.
func (t *Tracker) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.keep == nil {
		return nil
	}
	err := errors.Join(t.keep.err, t.keep.f.Close())
	t.keep = nil
	return err
}

// read returns 0 for a new file, and for one whose sandbox was busy.
func read(f *os.File) (time.Duration, error) {
	text := make([]byte, markSize)
	n, err := f.ReadAt(text, 0)
	if n == 0 {
		return 0, nil
	}
	if n < markSize {
		return 0, fmt.Errorf("%d bytes of %d: %w", n, markSize, errors.Join(fs.ErrInvalid, err))
	}
	word := string(bytes.TrimSpace(text))
	if word == busyWord {
		return 0, nil
	}
	since, err := strconv.ParseInt(word, 10, 64)
	if err != nil || since <= 0 {
		return 0, fmt.Errorf("%q is no time: %w", word, fs.ErrInvalid)
	}
	// What another boot's clock said is nothing to go by.
	if now, err := clock.Now(); err != nil || time.Duration(since) > now {
		return 0, err
	}
	return time.Duration(since), nil
}

func (m *mark) write(since time.Duration, busy bool) {
	word := busyWord
	if !busy {
		word = strconv.FormatInt(int64(since), 10)
	}
	_, err := m.f.WriteAt(fmt.Appendf(nil, "%-*s\n", markSize-1, word), 0)
	if m.err == nil {
		m.err = err
	}
}
