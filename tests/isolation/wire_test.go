package isolation

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"brig/internal/attachment"
	"brig/internal/netns"
)

// packetSocket is a raw socket on a link: what a compromised sentry has.
func (w *world) packetSocket(ns, link string) int {
	w.t.Helper()
	fd, err := packetSocket(ns, link)
	w.must(err)
	return fd
}

func packetSocket(ns, link string) (fd int, err error) {
	err = netns.Do(netns.Path(ns), func() (err error) {
		l, err := net.InterfaceByName(link)
		if err != nil {
			return err
		}
		const all = unix.ETH_P_ALL>>8 | unix.ETH_P_ALL&0xff<<8 // network order
		if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, all); err != nil {
			return err
		}
		return unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: l.Index})
	})
	return fd, err
}

// inject sends frames into a link of a namespace.
func (w *world) inject(ns, link string, frames ...[]byte) {
	w.t.Helper()
	fd := w.packetSocket(ns, link)
	defer unix.Close(fd)
	for i, frame := range frames {
		if i%100 == 99 {
			time.Sleep(time.Millisecond) // the receiver's turn
		}
		if _, err := unix.Write(fd, frame); err != nil {
			w.t.Fatalf("inject: %v", err)
		}
	}
}

// capture remembers the frames that pass a link.
type capture struct {
	mu     sync.Mutex
	frames [][]byte
}

func (w *world) capture(ns, link string) *capture {
	w.t.Helper()
	fd := w.packetSocket(ns, link)
	w.must(unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 20000}))
	c := new(capture)
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		defer unix.Close(fd)
		buffer := make([]byte, 1<<16)
		for {
			select {
			case <-done:
				return
			default:
			}
			if n, err := unix.Read(fd, buffer); err == nil {
				c.mu.Lock()
				c.frames = append(c.frames, bytes.Clone(buffer[:n]))
				c.mu.Unlock()
			}
		}
	}()
	w.t.Cleanup(func() { close(done); <-ended })
	return c
}

// saw tells whether a frame with the marker passed.
func (c *capture) saw(marker string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, f := range c.frames {
		if bytes.Contains(f, []byte(marker)) {
			return true
		}
	}
	return false
}

// await waits for the marker, up to a second.
func (c *capture) await(marker string) bool {
	for end := time.Now().Add(time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if c.saw(marker) {
			return true
		}
	}
	return false
}

// frame is an Ethernet frame to be changed by an attack before it is encoded.
type frame struct {
	dst, src  net.HardwareAddr
	kind      uint16
	from, to  netip.Addr
	proto     byte
	id        uint16
	fragment  uint16 // flags and offset
	transport []byte // nil: UDP around the payload
	payload   string
}

// honest is what the sandbox may send: UDP to port 9.
func (s *sandbox) honest(to netip.Addr, payload string) frame {
	return frame{
		dst: attachment.GatewayMAC, src: attachment.MAC(s.addr), kind: 0x0800,
		from: s.addr, to: to, proto: unix.IPPROTO_UDP, payload: payload,
	}
}

func (f frame) encode() []byte {
	b := append(append(bytes.Clone(f.dst), f.src...), byte(f.kind>>8), byte(f.kind))
	if f.kind != 0x0800 {
		return append(b, f.payload...)
	}
	body := f.transport
	if body == nil {
		body = udp(f.payload)
	}
	h := make([]byte, 20)
	h[0], h[8], h[9] = 0x45, 64, f.proto
	binary.BigEndian.PutUint16(h[2:], uint16(20+len(body)))
	binary.BigEndian.PutUint16(h[4:], f.id)
	binary.BigEndian.PutUint16(h[6:], f.fragment)
	copy(h[12:], f.from.AsSlice())
	copy(h[16:], f.to.AsSlice())
	binary.BigEndian.PutUint16(h[10:], checksum(h))
	return append(append(b, h...), body...)
}

func udp(payload string) []byte {
	u := make([]byte, 8, 8+len(payload))
	binary.BigEndian.PutUint16(u, 4000)
	binary.BigEndian.PutUint16(u[2:], 9)
	binary.BigEndian.PutUint16(u[4:], uint16(8+len(payload)))
	return append(u, payload...) // checksum 0: none
}

func checksum(h []byte) uint16 {
	var sum uint32
	for i := 0; i < len(h); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(h[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
