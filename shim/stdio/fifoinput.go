package stdio

import (
	"fmt"
	"os"
	"sync"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// fifoInput copies from a FIFO.
type fifoInput struct {
	stdin
	path string

	mu       sync.Mutex
	from     *os.File // nil: not started
	hold     *os.File // a writer of the FIFO: without one, its end would come whenever a client detaches
	released bool     // there is to be no hold
	closed   bool
}

func openFIFOInput(path string, to stdin) (*fifoInput, error) {
	fi, err := os.Lstat(path)
	if err != nil {
		return nil, err
	}
	if fi.Mode().Type() != os.ModeNamedPipe {
		return nil, fmt.Errorf("%s is not a FIFO: %w", path, errdefs.ErrInvalidArgument)
	}
	return &fifoInput{stdin: to, path: path}, nil
}

func (i *fifoInput) start(interrupt func(unix.Signal)) (err error) {
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
func (i *fifoInput) copy(from *os.File, interrupt func(unix.Signal)) {
	defer i.close()
	buf := make([]byte, bufferBytes)
	for {
		n, err := from.Read(buf)
		if errDeliver := i.deliver(buf[:n], interrupt); err != nil || errDeliver != nil {
			return
		}
	}
}

func (i *fifoInput) release() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.released = true
	if i.hold != nil {
		i.hold.Close()
		i.hold = nil
	}
}

func (i *fifoInput) close() {
	i.release()
	i.mu.Lock()
	defer i.mu.Unlock()
	i.closed = true
	if i.from != nil {
		i.from.Close()
	}
	i.stdin.close()
}
