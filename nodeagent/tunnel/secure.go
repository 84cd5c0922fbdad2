package tunnel

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// decrypt copies what the client says to the sandbox until its end.
func decrypt(to, conn *net.TCPConn, from *tls.Conn, count func(int)) error {
	// Of a record, whose bytes crypto/tls has anyway, no more can come at once.
	buffer := make([]byte, 16<<10)
	for {
		n, err := from.Read(buffer)
		if n > 0 {
			if err := stubborn(to, conn, buffer[:n], count); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// encrypt copies what the sandbox says to the client until its end. It has a buffer
// while there is something to say.
func encrypt(to *tls.Conn, from *net.TCPConn, count func(int)) error {
	raw, err := from.SyscallConn()
	if err != nil {
		return err
	}
	for {
		var buffer *[32 << 10]byte
		var n int
		failed := raw.Read(func(fd uintptr) (done bool) {
			buffer = buffers.Get().(*[32 << 10]byte)
			if n, err = read(int(fd), buffer[:]); errors.Is(err, unix.EAGAIN) {
				buffers.Put(buffer)
				buffer = nil
				return false
			}
			return true
		})
		err = errors.Join(failed, err)
		if n > 0 && err == nil {
			_, err = to.Write(buffer[:n])
			count(n)
		}
		if buffer != nil {
			buffers.Put(buffer)
		}
		if err != nil || n == 0 {
			return err
		}
	}
}

// stubborn writes all of b that came from from, however long it takes, unless from is
// gone.
func stubborn(to, from *net.TCPConn, b []byte, count func(int)) error {
	for {
		if err := to.SetWriteDeadline(time.Now().Add(stallLook)); err != nil {
			return err
		}
		n, err := to.Write(b)
		count(n)
		if b = b[n:]; len(b) == 0 && err == nil {
			return nil
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			err = stalled(from)
		}
		if err != nil {
			return err
		}
	}
}
