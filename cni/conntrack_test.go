package cni

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"brig/internal/netns"
	"brig/internal/require"
)

// inNamespace runs fn in a throwaway namespace that tracks connections.
func inNamespace(t *testing.T, fn func()) {
	t.Helper()
	require.Net(t)
	const name = "brigtest-cni"
	if err := netns.Create(name); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := netns.Delete(name); err != nil {
			t.Error(err)
		}
	}()
	if err := netns.Do(netns.Path(name), func() error { fn(); return nil }); err != nil {
		t.Fatal(err)
	}
}

// track makes an entry as NAT would: what is sent to one address is answered from
// another, and to another.
func track(t testing.TB, port int, from, to, answersFrom, answersTo string) {
	t.Helper()
	tuple := func(from, to string, sport, dport int) netlink.IPTuple {
		return netlink.IPTuple{SrcIP: netip.MustParseAddr(from).AsSlice(), DstIP: netip.MustParseAddr(to).AsSlice(), SrcPort: uint16(sport), DstPort: uint16(dport), Protocol: unix.IPPROTO_UDP}
	}
	family := netlink.InetFamily(unix.AF_INET)
	if netip.MustParseAddr(from).Is6() {
		family = unix.AF_INET6
	}
	err := netlink.ConntrackCreate(netlink.ConntrackTable, family, &netlink.ConntrackFlow{
		FamilyType: uint8(family), TimeOut: 600, Forward: tuple(from, to, port, 53), Reverse: tuple(answersFrom, answersTo, 53, port),
	})
	if err != nil {
		t.Fatal(err)
	}
}

func tracked(t *testing.T) (sources []string) {
	t.Helper()
	for _, family := range []netlink.InetFamily{unix.AF_INET, unix.AF_INET6} {
		flows, err := netlink.ConntrackTableList(netlink.ConntrackTable, family)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range flows {
			sources = append(sources, fmt.Sprint(f.Forward.SrcIP, ">", f.Forward.DstIP))
		}
	}
	return sources
}

// Wherever an address stands in an entry, the entry goes, and no other.
func TestFlushConntrack(t *testing.T) {
	for name, flush := range map[string]func(netip.Addr) error{
		"by the kernel": func(a netip.Addr) error {
			if a.Is6() {
				return flushHere(a)
			}
			for _, p := range places {
				if err := p.flush(a); err != nil {
					return err
				}
			}
			return nil
		},
		"listed": func(a netip.Addr) error { return flushListed(netip.PrefixFrom(a, a.BitLen())) },
		"either": flushHere,
	} {
		t.Run(name, func(t *testing.T) {
			inNamespace(t, func() {
				track(t, 1, "10.88.0.1", "203.0.113.2", "203.0.113.2", "203.0.113.1") // masqueraded
				track(t, 2, "169.254.1.1", "10.88.0.1", "10.88.0.1", "169.254.1.1")   // a tunnel
				track(t, 3, "203.0.113.2", "203.0.113.1", "10.88.0.1", "203.0.113.2") // somebody's DNAT
				track(t, 4, "203.0.113.9", "203.0.113.2", "203.0.113.2", "10.88.0.1") // somebody's SNAT
				track(t, 5, "10.88.0.2", "203.0.113.2", "203.0.113.2", "203.0.113.1")
				track(t, 6, "fd00::1", "2001:db8::1", "2001:db8::1", "fd00::1")
				track(t, 7, "fd00::2", "2001:db8::1", "2001:db8::1", "fd00::2")
				for _, a := range []string{"10.88.0.1", "fd00::1"} {
					if err := flush(netip.MustParseAddr(a)); err != nil {
						t.Error(err)
					}
				}
				if got, want := fmt.Sprint(tracked(t)), "[10.88.0.2>203.0.113.2 fd00::2>2001:db8::1]"; got != want {
					t.Errorf("left %s, want %s", got, want)
				}
			})
		})
	}
}

// TestUntracked: one connection of whoever is enough.
func TestUntracked(t *testing.T) {
	inNamespace(t, func() {
		if !untracked() {
			t.Error("there is a connection in an empty namespace")
		}
	})
	for _, of := range []string{"203.0.113.9", "2001:db8::9"} {
		inNamespace(t, func() {
			track(t, 1, of, of, of, of)
			if untracked() {
				t.Errorf("the connection of %s is not there", of)
			}
		})
	}
}

// BenchmarkFlush with many connections of others.
func BenchmarkFlush(b *testing.B) {
	require.Net(b)
	const name = "brigtest-cnib"
	if err := netns.Create(name); err != nil {
		b.Fatal(err)
	}
	defer func() { _ = netns.Delete(name) }()
	err := netns.Do(netns.Path(name), func() error {
		a := netip.MustParseAddr("10.88.0.1")
		made := 0
		for _, flows := range []int{0, 1, 10000} {
			for ; made < flows; made++ {
				track(b, 1+made%60000, fmt.Sprint("10.89.0.", 1+made/60000), "203.0.113.2", "203.0.113.2", "203.0.113.1")
			}
			b.Run(fmt.Sprint("kernel/", flows), func(b *testing.B) {
				for b.Loop() {
					err := netns.Do(netns.Path(name), func() error { return flushHere(a) })
					if err != nil {
						b.Fatal(err)
					}
				}
			})
			b.Run(fmt.Sprint("listed/", flows), func(b *testing.B) {
				for b.Loop() {
					err := netns.Do(netns.Path(name), func() error { return flushListed(netip.PrefixFrom(a, 32)) })
					if err != nil {
						b.Fatal(err)
					}
				}
			})
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
}
