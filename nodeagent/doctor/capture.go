package doctor

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"brig/internal/netns"
)

// snap is how much of a frame is looked at, in bytes: the markers stand near its head,
// also in the quotation of an ICMP error.
const snap = 384

// all is ETH_P_ALL in network order.
const all = unix.ETH_P_ALL>>8 | unix.ETH_P_ALL&0xff<<8

// direction in which a frame passes a link, seen from its end.
type direction bool

const (
	incoming direction = false
	outgoing direction = true
)

// packetSocket is a raw socket on a link of the namespace at path; "" is the host's.
func packetSocket(path, link string) (fd int, err error) {
	err = within(path, func() error {
		l, err := net.InterfaceByName(link)
		if err != nil {
			return fmt.Errorf("find link %s: %w", link, err)
		}
		if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0); err != nil {
			return fmt.Errorf("open a raw socket: %w", err)
		}
		// Bound to no protocol yet, it receives nothing that no filter has seen.
		if err := unix.Bind(fd, &unix.SockaddrLinklayer{Ifindex: l.Index}); err != nil {
			return errors.Join(err, unix.Close(fd))
		}
		return nil
	})
	return fd, err
}

// within runs fn in the namespace at path; "" is the caller's.
func within(path string, fn func() error) error {
	if path == "" {
		return fn()
	}
	return netns.Do(path, fn)
}

// capture reads what passes one link one way until it is closed.
type capture struct {
	fd, stop int // stop is the writing end of a pipe
	ended    sync.WaitGroup
}

// take tells see every frame that the filter accepts. see must not keep the bytes.
func take(path, link string, way direction, filter []bpf.Instruction, see func([]byte)) (*capture, error) {
	fd, err := packetSocket(path, link)
	if err != nil {
		return nil, err
	}
	var pipe [2]int
	if err := errors.Join(arm(fd, filter), unix.Pipe2(pipe[:], unix.O_CLOEXEC)); err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	if err := within(path, func() error { return listenAll(fd, link) }); err != nil {
		return nil, errors.Join(err, unix.Close(fd), unix.Close(pipe[0]), unix.Close(pipe[1]))
	}
	c := &capture{fd: fd, stop: pipe[1]}
	c.ended.Go(func() {
		defer unix.Close(pipe[0])
		c.read(pipe[0], way, see)
	})
	return c, nil
}

// arm sets filter and buffer. The buffer is the bound of the capture's memory.
func arm(fd int, filter []bpf.Instruction) error {
	raw, err := bpf.Assemble(filter)
	if err != nil {
		return err
	}
	program := make([]unix.SockFilter, len(raw))
	for i, r := range raw {
		program[i] = unix.SockFilter{Code: r.Op, Jt: r.Jt, Jf: r.Jf, K: r.K}
	}
	if err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}); err != nil {
		return fmt.Errorf("attach a filter: %w", err)
	}
	return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 4<<20)
}

func listenAll(fd int, link string) error {
	l, err := net.InterfaceByName(link)
	if err != nil {
		return err
	}
	return unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: l.Index})
}

func (c *capture) read(stop int, way direction, see func([]byte)) {
	buffer := make([]byte, snap)
	for {
		ready := []unix.PollFd{{Fd: int32(c.fd), Events: unix.POLLIN}, {Fd: int32(stop), Events: unix.POLLIN}}
		if _, err := unix.Poll(ready, -1); err != nil && !errors.Is(err, unix.EINTR) || ready[1].Revents != 0 {
			return
		}
		n, from, err := unix.Recvfrom(c.fd, buffer, unix.MSG_DONTWAIT)
		link, ok := from.(*unix.SockaddrLinklayer)
		if err != nil || !ok || direction(link.Pkttype == unix.PACKET_OUTGOING) != way {
			continue
		}
		see(buffer[:n])
	}
}

// close ends the capture; see is not called any more.
func (c *capture) close() {
	_ = unix.Close(c.stop)
	c.ended.Wait()
	_ = unix.Close(c.fd)
}

// everything accepts all frames: for links that are the doctor's own.
func everything() []bpf.Instruction { return []bpf.Instruction{bpf.RetConstant{Val: snap}} }

// documentation are the first 24 bits of the IPv4 ranges for documentation, and what
// begins IPv6's.
var documentation = []uint32{0xc0000200, 0xc6336400, 0xcb007100}

const documentation6 = 0x20010db8

// ours accepts frames that have to do with the doctor: of or to its own sandboxes, of
// or to documentation ranges, and what no user's traffic looks like. Other people's
// traffic does not leave the kernel.
func ours(own []netip.Addr) []bpf.Instruction {
	var f filter
	f.add(bpf.LoadAbsolute{Off: 12, Size: 2})
	f.add(bpf.JumpIf{Cond: bpf.JumpEqual, Val: etherIPv4, SkipFalse: 1}, bpf.Jump{Skip: 1})
	f.add(bpf.Jump{Skip: 0}) // patched below
	v6 := len(f) - 1
	for _, offset := range []uint32{14 + 12, 14 + 16} { // source, destination
		f.add(bpf.LoadAbsolute{Off: offset, Size: 4})
		for _, a := range own {
			f.accept(number(a))
		}
		f.add(bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: 0xffffff00})
		for _, d := range documentation {
			f.accept(d)
		}
	}
	f.add(bpf.RetConstant{Val: 0})
	f[v6] = bpf.Jump{Skip: uint32(len(f) - v6 - 1)}
	// Whatever is no IPv6 either is nobody's traffic on such a link.
	f.add(bpf.JumpIf{Cond: bpf.JumpEqual, Val: etherIPv6, SkipTrue: 1}, bpf.RetConstant{Val: snap})
	f.add(bpf.LoadAbsolute{Off: 14 + 8, Size: 4})
	f.accept(documentation6)
	f.add(bpf.LoadAbsolute{Off: 14 + 24, Size: 4})
	f.accept(documentation6)
	// Not of the public internet: link-local, multicast, local, mapped, metadata.
	f.add(bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: 0xe0000000})
	f.add(bpf.JumpIf{Cond: bpf.JumpEqual, Val: 0x20000000, SkipTrue: 1}, bpf.RetConstant{Val: snap})
	return append(f, bpf.RetConstant{Val: 0})
}

// leaving is for an uplink, which carries the whole machine's traffic: only what goes
// to a documentation range, where nobody lives.
func leaving() []bpf.Instruction {
	var f filter
	f.add(bpf.LoadAbsolute{Off: 12, Size: 2})
	f.add(bpf.JumpIf{Cond: bpf.JumpEqual, Val: etherIPv4, SkipTrue: 1}, bpf.RetConstant{Val: 0})
	f.add(bpf.LoadAbsolute{Off: 14 + 16, Size: 4}, bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: 0xffffff00})
	for _, d := range documentation {
		f.accept(d)
	}
	return append(f, bpf.RetConstant{Val: 0})
}

type filter []bpf.Instruction

func (f *filter) add(i ...bpf.Instruction) { *f = append(*f, i...) }

// accept if the loaded value is this one.
func (f *filter) accept(value uint32) {
	f.add(bpf.JumpIf{Cond: bpf.JumpEqual, Val: value, SkipFalse: 1}, bpf.RetConstant{Val: snap})
}

func number(a netip.Addr) uint32 {
	b := a.As4()
	return uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
}
