package sni

import (
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// buffers are lent only while there is something to read: a thousand connections that
// wait hold none.
var buffers = sync.Pool{New: func() any { return new([32 << 10]byte) }}

// join copies both ways until both have ended. A direction that breaks takes the other
// with it: its bytes would have nowhere to be answered.
func (p *Proxy) join(c *connection) {
	var wg sync.WaitGroup
	pump := func(to, from *net.TCPConn, moved *atomic.Uint64) {
		if err := forward(to, from, moved); err != nil || to.CloseWrite() != nil {
			c.reset()
		}
	}
	wg.Go(func() { pump(c.server, c.client, &p.stats.sent) })
	wg.Go(func() { pump(c.client, c.server, &p.stats.received) })
	wg.Wait()
	_ = c.client.Close() // in order: what is under way still arrives
	_ = c.server.Close()
}

// forward copies until the end of data, which is no error.
func forward(to, from *net.TCPConn, moved *atomic.Uint64) error {
	raw, err := from.SyscallConn()
	if err != nil {
		return err
	}
	for {
		buffer, n, err := receive(raw.Read)
		if n > 0 {
			_, err = to.Write(buffer[:n])
			moved.Add(uint64(n))
		}
		if buffer != nil {
			buffers.Put(buffer)
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// receive waits until there is something to read, and only then takes a buffer.
func receive(read func(func(uintptr) bool) error) (buffer *[32 << 10]byte, n int, err error) {
	failed := read(func(fd uintptr) bool {
		buffer = buffers.Get().(*[32 << 10]byte)
		for {
			if n, err = unix.Read(int(fd), buffer[:]); !errors.Is(err, unix.EINTR) {
				break
			}
		}
		if errors.Is(err, unix.EAGAIN) {
			buffers.Put(buffer)
			buffer = nil
			return false
		}
		return true
	})
	switch {
	case failed != nil:
		return buffer, 0, failed
	case err != nil:
		return buffer, 0, err
	case n == 0:
		return buffer, 0, io.EOF
	}
	return buffer, n, nil
}
