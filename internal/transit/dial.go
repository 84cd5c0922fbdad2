package transit

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"brig/internal/config"
	"brig/internal/netns"
)

// Dial connects by TCP from inside the transit namespace. The context bounds it. Only
// the socket is made on a thread of the namespace: a sandbox that leaves a connection
// unanswered would hold the thread, and with many of them all that a process may have.
func Dial(ctx context.Context, cfg *config.Config, to netip.AddrPort) (net.Conn, error) {
	var socket *os.File
	err := netns.Do(Path(cfg), func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
		if err == nil {
			socket = os.NewFile(uintptr(fd), "tcp")
		}
		return err
	})
	if err == nil {
		defer socket.Close() // net has one of its own
		err = connect(ctx, socket, to)
	}
	if err != nil {
		return nil, fmt.Errorf("dial %s from %s: %w", to, cfg.TransitName(), err)
	}
	return net.FileConn(socket)
}

// connect waits without a thread, as long as ctx allows.
func connect(ctx context.Context, socket *os.File, to netip.AddrPort) error {
	conn, err := socket.SyscallConn()
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = socket.SetWriteDeadline(time.Unix(1, 0)) })
	defer stop()
	begun := false
	failed := conn.Write(func(fd uintptr) (done bool) {
		if !begun {
			begun = true
			err = unix.Connect(int(fd), &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().Unmap().As4()})
			return !errors.Is(err, unix.EINPROGRESS)
		}
		// The poller may wake us for nothing: a socket is connected when it has a peer.
		var code int
		if code, err = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR); err == nil && code != 0 {
			err = unix.Errno(code)
		}
		if err != nil {
			return true
		}
		_, err = unix.Getpeername(int(fd))
		return !errors.Is(err, unix.ENOTCONN)
	})
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return errors.Join(failed, err)
}

// Listen for TCP inside the transit namespace.
func Listen(ctx context.Context, cfg *config.Config, at netip.AddrPort) (net.Listener, error) {
	var l net.Listener
	err := netns.Do(Path(cfg), func() (err error) {
		l, err = new(net.ListenConfig).Listen(ctx, "tcp4", at.String())
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("listen on %s in %s: %w", at, cfg.TransitName(), err)
	}
	return l, nil
}

// ListenPacket for UDP inside the transit namespace.
func ListenPacket(ctx context.Context, cfg *config.Config, at netip.AddrPort) (net.PacketConn, error) {
	var c net.PacketConn
	err := netns.Do(Path(cfg), func() (err error) {
		c, err = new(net.ListenConfig).ListenPacket(ctx, "udp4", at.String())
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("listen on %s in %s: %w", at, cfg.TransitName(), err)
	}
	return c, nil
}
