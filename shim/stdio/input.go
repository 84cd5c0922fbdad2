package stdio

import (
	"fmt"
	"os"
	"sync"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// input copies from a FIFO to a process.
type input struct {
	path     string
	to       *os.File // closed at the end of input, unless it is a terminal
	terminal bool

	mu       sync.Mutex
	from     *os.File // nil: not started
	hold     *os.File // a writer of the FIFO: without one, its end would come whenever a client detaches
	released bool     // there is to be no hold
	closed   bool
}

func openInput(path string) (file *os.File, in *input, err error) {
	if path == "" || path == os.DevNull {
		file, err = os.OpenFile(os.DevNull, os.O_RDONLY, 0)
		return file, nil, err
	}
	in = &input{path: path}
	if err := in.check(); err != nil {
		return nil, nil, err
	}
	file, in.to, err = os.Pipe()
	return file, in, err
}

// check tells early what start would tell late.
func (i *input) check() error {
	fi, err := os.Lstat(i.path)
	if err != nil {
		return err
	}
	if fi.Mode().Type() != os.ModeNamedPipe {
		return fmt.Errorf("%s is not a FIFO: %w", i.path, errdefs.ErrInvalidArgument)
	}
	return nil
}

func (i *input) start(interrupt func(unix.Signal)) (err error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.closed || i.from != nil {
		return nil
	}
	if i.from, err = openFIFO(i.path, os.O_RDONLY); err != nil {
		return err
	}
	// Without a hold there must be a writer already, or input ends at once, which is
	// what closing it before the start means.
	if !i.released {
		if i.hold, err = openFIFO(i.path, os.O_WRONLY); err != nil {
			return err
		}
	}
	go i.copy(i.from, interrupt)
	return nil
}

// copy ends with an error of either side; there is nobody to tell which.
func (i *input) copy(from *os.File, interrupt func(unix.Signal)) {
	defer i.close()
	buf := make([]byte, bufferBytes)
	for {
		n, err := from.Read(buf)
		var signals []unix.Signal
		if i.terminal {
			signals = keySignals(i.to, buf[:n])
		}
		if _, errWrite := i.to.Write(buf[:n]); err != nil || errWrite != nil {
			return
		}
		for _, sig := range signals {
			interrupt(sig)
		}
	}
}

func (i *input) release() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.released = true
	if i.hold != nil {
		i.hold.Close()
		i.hold = nil
	}
}

func (i *input) close() {
	i.release()
	i.mu.Lock()
	defer i.mu.Unlock()
	i.closed = true
	if i.from != nil {
		i.from.Close()
	}
	if !i.terminal {
		i.to.Close()
	}
}
