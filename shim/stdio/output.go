package stdio

import (
	"errors"
	"os"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// bufferBytes is how much is copied at once, and fits into the pipe of an output: large
// enough that the cost of a call does not show, and small enough for a processor's cache.
const bufferBytes = 256 << 10

// output copies from a process to a sink until the process's end is closed. When the
// sink fails or has ended, it goes on reading: a program is not stopped because its
// output cannot be kept.
type output struct {
	from    *os.File
	to      *sink
	reading atomic.Bool // the copier holds nothing that it has not delivered
	done    chan struct{}
}

func newOutput(from *os.File, to *sink) *output {
	return &output{from: from, to: to, done: make(chan struct{})}
}

func openOutput(uri string, open func() (*sink, error)) (file *os.File, out *output, err error) {
	if uri == "" || uri == os.DevNull {
		file, err = os.OpenFile(os.DevNull, os.O_WRONLY, 0)
		return file, nil, err
	}
	to, err := open()
	if err != nil {
		return nil, nil, err
	}
	from, file, err := os.Pipe()
	if err != nil {
		to.end()
		return nil, nil, err
	}
	widen(file)
	return file, newOutput(from, to), nil
}

// widen makes room in a pipe for a whole buffer. The kernel may refuse it to a user who
// has many; then the pipe is as it was.
func widen(pipe *os.File) {
	conn, err := pipe.SyscallConn() // Fd would make the file block
	if err != nil {
		return
	}
	_ = conn.Control(func(fd uintptr) { _, _ = unix.FcntlInt(fd, unix.F_SETPIPE_SZ, bufferBytes) })
}

func (o *output) copy() {
	defer close(o.done)
	defer o.to.end()
	defer o.from.Close()
	buf := make([]byte, bufferBytes)
	for {
		o.reading.Store(true)
		n, err := o.from.Read(buf)
		o.reading.Store(false)
		if n > 0 {
			o.to.write(buf[:n])
		}
		if err != nil { // EOF; EIO of a pty whose replica is closed; Close
			return
		}
	}
}

func (o *output) ended() bool {
	select {
	case <-o.done:
		return true
	default:
		return false
	}
}

// quiet tells that all that was written so far is delivered. The flag is looked at
// before and after: the copier may be between its read and its write.
func (o *output) quiet() bool {
	if !o.reading.Load() {
		return false
	}
	conn, err := o.from.SyscallConn()
	if err != nil {
		return true
	}
	var pending int
	var errIoctl error
	err = conn.Control(func(fd uintptr) { pending, errIoctl = unix.IoctlGetInt(int(fd), unix.TIOCINQ) })
	return errors.Join(err, errIoctl) != nil || pending == 0 && o.reading.Load()
}

func (o *output) close() {
	o.to.end()
	o.from.Close()
}
