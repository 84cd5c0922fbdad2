package main

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"brig/internal/netns"
)

// patience with whatever a socket waits for.
const patience = time.Second

// socket is one that blocks its thread, no longer than patience: a wake-up less of the
// runtime's is what makes samples of some ten microseconds comparable.
type socket int

// openSocket of an IPv4 protocol in the namespace at path.
func openSocket(path string, kind int) (socket, error) {
	fd := -1
	err := netns.Do(path, func() (err error) {
		fd, err = unix.Socket(unix.AF_INET, kind|unix.SOCK_CLOEXEC, 0)
		return err
	})
	if err != nil {
		return -1, fmt.Errorf("open a socket: %w", err)
	}
	s := socket(fd)
	return s, errors.Join(s.hurry(), unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1))
}

// hurry limits the socket's patience.
func (s socket) hurry() error {
	timeout := unix.NsecToTimeval(int64(patience))
	return errors.Join(
		unix.SetsockoptTimeval(int(s), unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout),
		unix.SetsockoptTimeval(int(s), unix.SOL_SOCKET, unix.SO_SNDTIMEO, &timeout),
	)
}

// connect again after a signal goes on waiting.
func (s socket) connect(port uint16) error {
	for {
		err := unix.Connect(int(s), sockaddr(netip.AddrPortFrom(serverAddr, port)))
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

func (s socket) bind(port uint16) error {
	return unix.Bind(int(s), sockaddr(netip.AddrPortFrom(netip.IPv4Unspecified(), port)))
}

func sockaddr(a netip.AddrPort) *unix.SockaddrInet4 {
	return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
}

// read and write go on after a signal of the runtime's.
func (s socket) read(b []byte) (int, error)  { return again(unix.Read, s, b) }
func (s socket) write(b []byte) (int, error) { return again(unix.Write, s, b) }

func again(call func(int, []byte) (int, error), s socket, b []byte) (n int, err error) {
	for {
		if n, err = call(int(s), b); !errors.Is(err, unix.EINTR) {
			return n, err
		}
	}
}

func (s socket) close() error {
	if s < 0 {
		return nil
	}
	return unix.Close(int(s))
}
