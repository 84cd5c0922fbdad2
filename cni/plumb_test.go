package cni

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"brig/internal/lease"
	"brig/internal/netns"
	"brig/internal/require"
	"brig/internal/transit"
)

// plumbed connects two throwaway namespaces as an ADD does.
func plumbed(t *testing.T, l lease.Lease, fn func(transit, sandbox string)) {
	t.Helper()
	require.Net(t)
	names := []string{"brigtest-plumbt", "brigtest-plumbs"}
	for _, name := range names {
		if err := netns.Create(name); err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := netns.Delete(name); err != nil {
				t.Error(err)
			}
		}()
	}
	err := handled(netns.Path(names[0]), func(h *netlink.Handle) error {
		lo, err := h.LinkByName("lo")
		if err != nil {
			return err
		}
		return errors.Join(h.LinkSetUp(lo), h.AddrReplace(lo, &netlink.Addr{IPNet: host(gatewayPrefix.Addr())}))
	})
	if err != nil {
		t.Fatal(err)
	}
	sandbox := netns.Path(names[1])
	if err := plumb(transit.Node{Path: netns.Path(names[0]), MTU: 1400}, sandbox, l); err != nil {
		t.Fatal(err)
	}
	fn(netns.Path(names[0]), sandbox)
}

func leaseOf(a, a6 string) lease.Lease {
	l := lease.Lease{Link: "brg000000000001", Address: netip.MustParseAddr(a), Network: "brig", ContainerID: "c", IfName: "eth0", NetNS: 1}
	if a6 != "" {
		l.Addr6 = netip.MustParseAddr(a6)
	}
	return l
}

func verified(t *testing.T, transitPath, sandbox string, l lease.Lease) {
	t.Helper()
	peer := 0
	err := handled(transitPath, func(h *netlink.Handle) (err error) { peer, err = verifyLink(h, l); return err })
	if err == nil {
		err = handled(sandbox, func(h *netlink.Handle) error { return verifySandbox(h, l, peer) })
	}
	if err != nil {
		t.Error(err)
	}
}

// inet6 lists the IPv6 addresses of a namespace's links but loopback's.
func inet6(t *testing.T, path string) (list []string) {
	t.Helper()
	err := netns.Do(path, func() error {
		data, err := os.ReadFile("/proc/thread-self/net/if_inet6")
		for line := range strings.Lines(string(data)) {
			if f := strings.Fields(line); f[5] != "lo" {
				list = append(list, f[5]+" "+f[0]+"/"+f[2]+" flags "+f[4])
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// A sandbox of a node without IPv6 has none, on either end of its link.
func TestIPv6Off(t *testing.T) {
	l := leaseOf("10.88.0.5", "")
	plumbed(t, l, func(transit, sandbox string) {
		verified(t, transit, sandbox, l)
		if got := append(inet6(t, transit), inet6(t, sandbox)...); len(got) > 0 {
			t.Errorf("IPv6 addresses %v", got)
		}
		for _, path := range []string{transit, sandbox} {
			err := netns.Do(path, func() error {
				for _, link := range []string{"eth0", l.Link} {
					data, err := os.ReadFile("/proc/sys/net/ipv6/conf/" + link + "/disable_ipv6")
					if err == nil && strings.TrimSpace(string(data)) != "1" {
						t.Errorf("disable_ipv6 of %s is %s", link, data)
					}
				}
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		}
	})
}

// With IPv6 a sandbox has the one address that it was given, asks nobody whether it is
// taken, asks for no router, and resolves no neighbour: its first packet is its own.
func TestBothFamilies(t *testing.T) {
	l := leaseOf("10.88.0.5", "fd12::5")
	plumbed(t, l, func(transit, sandbox string) {
		verified(t, transit, sandbox, l)
		if got := inet6(t, transit); len(got) > 0 {
			t.Errorf("the transit's end has IPv6 addresses %v", got)
		}
		if got, want := fmt.Sprint(inet6(t, sandbox)), "[eth0 fd120000000000000000000000000005/80 flags 82]"; got != want {
			t.Errorf("the sandbox has %s, want %s: permanent, never tentative", got, want)
		}
		fd := packets(t, transit, l.Link)
		defer unix.Close(fd)
		for _, to := range []string{"[2001:db8::9]:9", "203.0.113.9:9"} {
			send(t, sandbox, netip.MustParseAddrPort(to))
		}
		if got, want := fmt.Sprint(kinds(fd)), "[IPv6 17 IPv4 17]"; got != want {
			t.Errorf("on the wire %s, want %s", got, want)
		}
	})
}

// packets is a raw socket on a link.
func packets(t *testing.T, path, link string) (fd int) {
	t.Helper()
	err := netns.Do(path, func() (err error) {
		l, err := netlink.LinkByName(link)
		if err != nil {
			return err
		}
		const all = unix.ETH_P_ALL>>8 | unix.ETH_P_ALL&0xff<<8
		if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, all); err != nil {
			return err
		}
		if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 200000}); err != nil {
			return err
		}
		return unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: l.Attrs().Index})
	})
	if err != nil {
		t.Fatal(err)
	}
	return fd
}

// kinds of the packets that come until nothing does for a while, without reports of
// multicast groups, which the kernel sends of itself and the rules drop.
func kinds(fd int) (all []string) {
	buffer := make([]byte, 2048)
	for {
		n, from, err := unix.Recvfrom(fd, buffer, 0)
		if err != nil {
			return all
		}
		if l, ok := from.(*unix.SockaddrLinklayer); ok && l.Pkttype == unix.PACKET_OUTGOING {
			continue // this end's own
		}
		switch f := buffer[:n]; {
		case f[12] == 0x86 && f[20] == 0: // hop-by-hop options: a report
		case f[12] == 0x86:
			all = append(all, fmt.Sprint("IPv6 ", f[20]))
		case f[12] == 0x08 && f[13] == 0:
			all = append(all, fmt.Sprint("IPv4 ", f[23]))
		default:
			all = append(all, fmt.Sprintf("type %x", f[12:14]))
		}
	}
}

func send(t *testing.T, path string, to netip.AddrPort) {
	t.Helper()
	err := netns.Do(path, func() error {
		family, address := unix.AF_INET, unix.Sockaddr(nil)
		if to.Addr().Is6() {
			family, address = unix.AF_INET6, &unix.SockaddrInet6{Port: int(to.Port()), Addr: to.Addr().As16()}
		} else {
			address = &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}
		}
		fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return unix.Sendto(fd, []byte("hello"), 0, address)
	})
	if err != nil {
		t.Error(err)
	}
	time.Sleep(10 * time.Millisecond)
}
