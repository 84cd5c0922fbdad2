package stdio

import (
	"os"
	"strings"

	"brig/internal/journal"

	"golang.org/x/sys/unix"
)

// input copies a process's stdin from where its task says it comes from.
type input interface {
	// start begins to copy, the first time it is called and unless it was closed.
	start(interrupt func(unix.Signal)) error
	// release lets the input end with what is there, instead of waiting for more.
	release()
	close()
}

// stdin is the process's side of an input.
type stdin struct {
	to       *os.File // closed at the end of input, unless it is a terminal
	terminal bool
}

// deliver writes p, and tells interrupt of the keys in it.
func (s stdin) deliver(p []byte, interrupt func(unix.Signal)) error {
	var signals []unix.Signal
	if s.terminal {
		signals = keySignals(s.to, p)
	}
	if _, err := s.to.Write(p); err != nil {
		return err
	}
	for _, sig := range signals {
		interrupt(sig)
	}
	return nil
}

func (s stdin) close() {
	if !s.terminal {
		s.to.Close()
	}
}

func openInput(uri string) (file *os.File, in input, err error) {
	if uri == "" || uri == os.DevNull {
		file, err = os.OpenFile(os.DevNull, os.O_RDONLY, 0)
		return file, nil, err
	}
	file, to, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	if in, err = connectInput(uri, stdin{to: to}); err != nil {
		file.Close()
		to.Close()
		return nil, nil, err
	}
	return file, in, nil
}

// connectInput tells early what start would tell late.
func connectInput(uri string, to stdin) (in input, err error) {
	if strings.HasPrefix(uri, journal.Scheme+"://") {
		in, err = openJournalInput(uri, to)
	} else {
		in, err = openFIFOInput(uri, to)
	}
	if err != nil {
		return nil, err // and no pointer that is nil
	}
	return in, nil
}
