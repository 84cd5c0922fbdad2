package tunnel

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The calls of a flow go past Go's scheduler. Their descriptors do not block, so they are
// short; but told of a call, the scheduler of an idle process first wakes the thread that
// watches over long ones, which then takes the processor away from every splice of more
// than 20 µs. Out of a sandbox, packet by packet, that was two fifths of the time and most
// switches. The price: until a call is over, a collection of garbage waits for it. It is
// why a pipe is not larger.

// splice moves up to most bytes between a socket and a pipe, or returns EAGAIN.
func splice(from, to, most int) (int, error) {
	return resume("splice", func() (uintptr, unix.Errno) {
		n, _, errno := unix.RawSyscall6(unix.SYS_SPLICE, uintptr(from), 0, uintptr(to), 0, uintptr(most), unix.SPLICE_F_MOVE|unix.SPLICE_F_NONBLOCK)
		return n, errno
	})
}

// read what is there into b, which is not empty, or return EAGAIN.
func read(fd int, b []byte) (int, error) {
	return resume("read", func() (uintptr, unix.Errno) {
		n, _, errno := unix.RawSyscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)))
		return n, errno
	})
}

// write what fits of b, which is not empty, or return EAGAIN.
func write(fd int, b []byte) (int, error) {
	return resume("write", func() (uintptr, unix.Errno) {
		n, _, errno := unix.RawSyscall(unix.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)))
		return n, errno
	})
}

// resume makes a call again that a signal interrupted.
func resume(name string, call func() (uintptr, unix.Errno)) (int, error) {
	for {
		switch n, errno := call(); errno {
		case 0:
			return int(n), nil
		case unix.EINTR:
		case unix.EAGAIN:
			return 0, errno
		default:
			return 0, fmt.Errorf("%s: %w", name, errno)
		}
	}
}
