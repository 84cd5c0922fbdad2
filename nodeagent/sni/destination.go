package sni

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"
)

// originalDst is the option of both families; the kernel's headers of IPv6 call it
// IP6T_SO_ORIGINAL_DST.
const originalDst = unix.SO_ORIGINAL_DST

// destination is where the sandbox wanted to connect to, before the rule set sent the
// connection here.
func destination(conn *net.TCPConn) (netip.AddrPort, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return netip.AddrPort{}, err
	}
	six := conn.LocalAddr().(*net.TCPAddr).AddrPort().Addr().Unmap().Is6()
	var to netip.AddrPort
	failed := raw.Control(func(fd uintptr) {
		if six {
			to, err = destination6(int(fd))
		} else {
			to, err = destination4(int(fd))
		}
	})
	if failed != nil {
		return netip.AddrPort{}, failed
	}
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("ask for the destination: %w", err)
	}
	return to, nil
}

// destination4 reads a sockaddr_in into a structure of the same sixteen bytes, for which
// there is a call.
func destination4(fd int) (netip.AddrPort, error) {
	m, err := unix.GetsockoptIPv6Mreq(fd, unix.SOL_IP, originalDst)
	if err != nil {
		return netip.AddrPort{}, err
	}
	b := m.Multiaddr
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[4:8])), binary.BigEndian.Uint16(b[2:4])), nil
}

// destination6 reads a sockaddr_in6, with which a structure begins for which there is a
// call.
func destination6(fd int) (netip.AddrPort, error) {
	info, err := unix.GetsockoptIPv6MTUInfo(fd, unix.SOL_IPV6, originalDst)
	if err != nil {
		return netip.AddrPort{}, err
	}
	port := binary.NativeEndian.AppendUint16(nil, info.Addr.Port) // the order of the network
	return netip.AddrPortFrom(netip.AddrFrom16(info.Addr.Addr), binary.BigEndian.Uint16(port)), nil
}
