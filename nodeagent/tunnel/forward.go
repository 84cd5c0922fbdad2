package tunnel

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// stallLook is how often one who cannot write looks whether the one whose bytes they
// are is still there: nobody reads from that one meanwhile, so nobody would see a reset.
const stallLook = 5 * time.Second

// buffers are lent only while there is something to read: a thousand connections that
// wait hold none.
var buffers = sync.Pool{New: func() any { return new([32 << 10]byte) }}

// flow is one direction between two sockets.
type flow struct {
	from, to *net.TCPConn
	count    func(int) // is told of bytes that were handed to to

	source, sink syscall.RawConn

	// Of the call under way. The functions are made once: a flow makes no garbage.
	fill, drain func(fd uintptr) bool
	p           pipe
	spliced     bool            // p is lent
	buffer      *[32 << 10]byte // or this one is
	begin, n    int             // bytes to write, in p or at begin in buffer
	waits       bool            // to has been full
	bulk        bool            // there is more at a time than a buffer is good for
	err         error
}

// forward copies until the end of data, which is no error.
func forward(to, from *net.TCPConn, count func(int)) error {
	source, errSource := from.SyscallConn()
	sink, errSink := to.SyscallConn()
	if err := errors.Join(errSource, errSink); err != nil {
		return err
	}
	f := &flow{from: from, to: to, count: count, source: source, sink: sink}
	f.fill, f.drain = f.filled, f.drained
	for {
		if err := f.step(); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// step waits for bytes and moves them on, all of them.
func (f *flow) step() error {
	failed := f.source.Read(f.fill)
	defer f.release()
	switch {
	case failed != nil:
		return failed
	case f.err != nil:
		return f.err
	case f.n == 0:
		return io.EOF
	}
	return f.pour()
}

// little is what a bulk flow ends with. It is less than what begins one, or each packet
// of 64 KiB would come in pieces, half of it copied.
const little = 4 << 10

// filled reads into a pipe or a buffer that it takes for as long as there are bytes. A
// buffer is faster for little, a pipe for much.
func (f *flow) filled(fd uintptr) (done bool) {
	if f.bulk {
		f.p, f.spliced = borrow()
	}
	if f.spliced {
		f.n, f.err = splice(int(fd), f.p.write, pipeSize)
	} else {
		f.buffer = buffers.Get().(*[32 << 10]byte)
		f.n, f.err = read(int(fd), f.buffer[:])
	}
	if errors.Is(f.err, unix.EAGAIN) {
		f.release()
		return false
	}
	f.begin = 0
	f.bulk = f.n >= len(f.buffer) || f.bulk && f.n > little
	return true
}

// release gives back what step holds.
func (f *flow) release() {
	switch {
	case f.spliced && f.n > 0:
		f.p.drop()
	case f.spliced:
		f.p.back()
	case f.buffer != nil:
		buffers.Put(f.buffer)
	}
	f.spliced, f.buffer, f.n = false, nil, 0
}

// pour writes what was read, however long it takes, unless its sender is gone.
func (f *flow) pour() error {
	for f.waits = false; f.n > 0; {
		if f.waits {
			if err := f.to.SetWriteDeadline(time.Now().Add(stallLook)); err != nil {
				return err
			}
		}
		failed := f.sink.Write(f.drain)
		if errors.Is(failed, os.ErrDeadlineExceeded) {
			f.waits, failed = true, stalled(f.from)
		}
		if err := errors.Join(failed, f.err); err != nil {
			return err
		}
	}
	if f.waits {
		return f.to.SetWriteDeadline(time.Time{})
	}
	return nil
}

// drained writes what goes at once. It comes back before it waits for the first time, so
// that it does not wait for ever; a deadline costs more than a write to who is not full.
func (f *flow) drained(fd uintptr) (done bool) {
	var n int
	if f.spliced {
		n, f.err = splice(f.p.read, int(fd), f.n)
	} else {
		n, f.err = write(int(fd), f.buffer[f.begin:f.begin+f.n])
	}
	if errors.Is(f.err, unix.EAGAIN) {
		f.err = nil
		waited := f.waits
		f.waits = true
		return !waited
	}
	f.begin, f.n = f.begin+n, f.n-n
	f.count(n)
	return true
}

// stalled is an error if the connection was reset.
func stalled(conn *net.TCPConn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var info *unix.TCPInfo
	failed := raw.Control(func(fd uintptr) { info, err = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO) })
	if err := errors.Join(failed, err); err != nil {
		return err
	}
	if info.State == tcpClose {
		return fmt.Errorf("its sender is gone: %w", unix.ECONNRESET)
	}
	return nil
}

// tcpClose is the kernel's TCP_CLOSE.
const tcpClose = 7
