package isolation

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
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
	return w.listenOn(w.packetSocket(ns, link))
}

// delivered remembers the packets that a namespace takes for its own, after its rules: what
// a service of it would get, of the protocols that attacks have.
func (w *world) delivered(ns string) *capture {
	w.t.Helper()
	var fds []int
	w.must(netns.Do(netns.Path(ns), func() error {
		for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
			for _, proto := range []int{1, 2, 4, 6, 17, 33, 41, 47, 50, 51, 58, 59, 89, 112, 132, 136, 200, 253} {
				fd, err := unix.Socket(family, unix.SOCK_RAW|unix.SOCK_CLOEXEC, proto)
				if err != nil {
					return err
				}
				fds = append(fds, fd)
			}
		}
		return nil
	}))
	return w.listenOn(fds...)
}

// listenOn remembers what arrives at sockets.
func (w *world) listenOn(fds ...int) *capture {
	w.t.Helper()
	c := new(capture)
	done := make(chan struct{})
	var readers sync.WaitGroup
	for _, fd := range fds {
		w.must(unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 32<<20))
		w.must(unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 50000}))
		readers.Go(func() {
			defer unix.Close(fd)
			c.read(fd, done)
		})
	}
	w.t.Cleanup(func() { close(done); readers.Wait() })
	return c
}

func (c *capture) read(fd int, done <-chan struct{}) {
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

// count frames that are so.
func (c *capture) count(is func(frame []byte) bool) (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, f := range c.frames {
		if is(f) {
			n++
		}
	}
	return n
}

// from are the packets whose source is in a range.
func (c *capture) from(p netip.Prefix) (found [][]byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, f := range c.frames {
		if source, _ := ends(f); source.IsValid() && p.Contains(source) {
			found = append(found, f)
		}
	}
	return found
}

// ends of an IP packet in a frame.
func ends(f []byte) (from, to netip.Addr) {
	switch {
	case len(f) >= 34 && f[12] == 0x08 && f[13] == 0:
		return netip.AddrFrom4([4]byte(f[26:30])), netip.AddrFrom4([4]byte(f[30:34]))
	case len(f) >= 54 && f[12] == 0x86 && f[13] == 0xdd:
		return netip.AddrFrom16([16]byte(f[22:38])), netip.AddrFrom16([16]byte(f[38:54]))
	}
	return from, to
}

// await waits for the marker, up to five seconds.
func (c *capture) await(marker string) bool {
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
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
	port      uint16
	id        uint16
	fragment  uint16 // flags and offset
	options   []byte // of IPv4
	transport []byte // nil: what proto has around the payload
	payload   string
}

// honest is what the sandbox may send: UDP to port 9.
func (s *sandbox) honest(to netip.Addr, payload string) frame {
	f := frame{
		dst: attachment.GatewayMAC, src: attachment.MAC(s.addr), kind: 0x0800,
		from: s.addr, to: to, proto: unix.IPPROTO_UDP, port: 9, payload: payload,
	}
	if to.Is6() {
		f.kind, f.from = 0x86dd, s.addr6
	}
	return f
}

func (f frame) encode() []byte {
	b := append(append(bytes.Clone(f.dst), f.src...), byte(f.kind>>8), byte(f.kind))
	switch f.kind {
	case 0x0800:
		return append(b, f.ipv4()...)
	case 0x86dd:
		if f.to.Is6() {
			return append(b, f.ipv6()...)
		}
	}
	return append(b, f.payload...)
}

func (f frame) ipv4() []byte {
	body := f.body()
	h := make([]byte, 20, 20+len(f.options)+len(body))
	h[8], h[9] = 64, f.proto
	binary.BigEndian.PutUint16(h[2:], uint16(20+len(f.options)+len(body)))
	binary.BigEndian.PutUint16(h[4:], f.id)
	binary.BigEndian.PutUint16(h[6:], f.fragment)
	copy(h[12:], f.from.AsSlice())
	copy(h[16:], f.to.AsSlice())
	h = append(h, f.options...)
	h[0] = 0x40 | byte(len(h)/4)
	binary.BigEndian.PutUint16(h[10:], checksum(h))
	return append(h, body...)
}

func (f frame) ipv6() []byte {
	body := f.body()
	h := make([]byte, 40, 40+len(body))
	h[0], h[6], h[7] = 0x60, f.proto, 64
	binary.BigEndian.PutUint16(h[4:], uint16(len(body)))
	copy(h[8:], f.from.AsSlice())
	copy(h[24:], f.to.AsSlice())
	return append(h, body...)
}

// body is the payload with what its protocol puts before it.
func (f frame) body() []byte {
	if f.transport != nil {
		return f.transport
	}
	b := append(transportHeader(f.proto, f.port), f.payload...)
	switch f.proto {
	case unix.IPPROTO_UDP:
		return udp(f.from, f.to, f.port, f.payload)
	case unix.IPPROTO_ICMP:
		binary.BigEndian.PutUint16(b[2:], checksum(b))
	case unix.IPPROTO_ICMPV6:
		binary.BigEndian.PutUint16(b[2:], checksum(append(pseudo(f.from, f.to, f.proto, len(b)), b...)))
	case unix.IPPROTO_TCP:
		binary.BigEndian.PutUint16(b[16:], checksum(append(pseudo(f.from, f.to, f.proto, len(b)), b...)))
	case unix.IPPROTO_SCTP:
		for len(b)%4 != 0 {
			b = append(b, 0)
		}
		binary.BigEndian.PutUint16(b[14:], uint16(len(b)-12))
		binary.LittleEndian.PutUint32(b[8:], crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
	}
	return b
}

// pseudo is the header that transport checksums begin with.
func pseudo(from, to netip.Addr, proto byte, size int) []byte {
	return append(append(from.AsSlice(), to.AsSlice()...), 0, proto, byte(size>>8), byte(size))
}

// udp is a datagram from port 4000.
func udp(from, to netip.Addr, port uint16, payload string) []byte {
	u := make([]byte, 8, 8+len(payload))
	binary.BigEndian.PutUint16(u, 4000)
	binary.BigEndian.PutUint16(u[2:], port)
	binary.BigEndian.PutUint16(u[4:], uint16(8+len(payload)))
	u = append(u, payload...)
	binary.BigEndian.PutUint16(u[6:], checksum(append(pseudo(from, to, unix.IPPROTO_UDP, len(u)), u...)))
	return u
}

func checksum(h []byte) uint16 {
	var sum uint32
	for i := 0; i+1 < len(h); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(h[i:]))
	}
	if len(h)%2 == 1 {
		sum += uint32(h[len(h)-1]) << 8
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
