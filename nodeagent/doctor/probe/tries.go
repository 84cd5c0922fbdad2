package probe

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// connect by TCP and say the payload.
func (t Try) connect(patience time.Duration) error {
	d := net.Dialer{Timeout: patience}
	if t.From != "" {
		d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(t.From)}
	}
	conn, err := d.Dial("tcp", t.To)
	if err != nil {
		return brief(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	_, _ = conn.Write(t.Payload) // that it is connected is what counts
	return nil
}

// datagram sends the payload by UDP, from a foreign address if one is named.
func (t Try) datagram(patience time.Duration) (answered bool, err error) {
	to, err := netip.ParseAddrPort(t.To)
	if err != nil {
		return false, err
	}
	fd, err := unix.Socket(domain(to.Addr()), unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return false, err
	}
	defer unix.Close(fd)
	if err := t.prepare(fd, to.Addr()); err != nil {
		return false, err
	}
	if err := unix.Sendto(fd, t.Payload, 0, sockaddr(to)); err != nil {
		return false, err
	}
	if t.Kind == Join {
		return wait(fd, anybody, patience)
	}
	return wait(fd, to.Addr(), patience)
}

// prepare sets what the try asks for. Options are the sandbox's own business: one that
// its kernel does not have is no error.
func (t Try) prepare(fd int, to netip.Addr) error {
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_BROADCAST, 1)
	if t.TTL > 0 {
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_TTL, t.TTL)
	}
	if t.Kind == Join && to.Is4() {
		_ = unix.SetsockoptIPMreq(fd, unix.IPPROTO_IP, unix.IP_ADD_MEMBERSHIP, &unix.IPMreq{Multiaddr: to.As4()})
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MULTICAST_TTL, 8)
	}
	if t.From == "" {
		return nil
	}
	from, err := netip.ParseAddr(t.From)
	if err != nil {
		return err
	}
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_FREEBIND, 1)
	_ = unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_TRANSPARENT, 1)
	return unix.Bind(fd, sockaddr(netip.AddrPortFrom(from, 0)))
}

// ping sends an echo request and waits for its answer.
func (t Try) ping(patience time.Duration) (answered bool, err error) {
	to, err := netip.ParseAddrPort(t.To)
	if err != nil {
		return false, err
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, unix.IPPROTO_ICMP)
	if err != nil {
		return false, err
	}
	defer unix.Close(fd)
	echo := append([]byte{8, 0, 0, 0, 0, 0, 0, 1}, t.Payload...)
	if err := unix.Sendto(fd, echo, 0, sockaddr(to)); err != nil {
		return false, err
	}
	return wait(fd, to.Addr(), patience)
}

// anybody may answer what went to many.
var anybody netip.Addr

// wait for one datagram of whoever was sent one: what comes from elsewhere was meant for
// the try that had the same port before.
func wait(fd int, of netip.Addr, patience time.Duration) (answered bool, err error) {
	for end := time.Now().Add(patience); ; {
		left := time.Until(end)
		if left <= 0 {
			return false, nil
		}
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(left.Milliseconds())+1)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil || n == 0:
			return false, err
		default:
			_, from, err := unix.Recvfrom(fd, make([]byte, 2048), unix.MSG_DONTWAIT)
			if err != nil || of == anybody || of.IsUnspecified() || sender(from) == of.Unmap() {
				return err == nil, err
			}
		}
	}
}

// sender of a datagram; the zero address if it has none.
func sender(from unix.Sockaddr) netip.Addr {
	switch from := from.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrFrom4(from.Addr)
	case *unix.SockaddrInet6:
		return netip.AddrFrom16(from.Addr).Unmap()
	}
	return netip.Addr{}
}

// raw sends a whole IP packet.
func (t Try) raw() error {
	to, err := netip.ParseAddrPort(t.To)
	if err != nil {
		return err
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Sendto(fd, t.Payload, 0, sockaddr(to))
}

// packet sends a whole frame.
func (t Try) packet() error {
	link, err := net.InterfaceByName(t.To)
	if err != nil {
		return err
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Sendto(fd, t.Payload, 0, &unix.SockaddrLinklayer{Ifindex: link.Index, Halen: 6})
}

func domain(a netip.Addr) int {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

// sockaddr of an address; one that is v4-mapped stays an IPv6 one.
func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
}

// brief is the kernel's word for an error, or that there was none in time.
func brief(err error) error {
	var code syscall.Errno
	switch {
	case errors.As(err, &code):
		return code
	case errors.Is(err, os.ErrDeadlineExceeded):
		return errors.New("no answer")
	}
	return err
}
