package doctor

import (
	"bufio"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"brig/internal/transit"
)

// maxPorts bounds how many of the host's listening ports are tried at each address.
const maxPorts = 10

// listen opens the listeners that nothing may reach: on all addresses of the host, and
// on all of the transit namespace.
func (w *world) listen() error {
	ctx := context.Background()
	tcp, err := new(net.ListenConfig).Listen(ctx, "tcp", ":0")
	if err != nil {
		return fmt.Errorf("listen on the host: %w", err)
	}
	w.tcp = serveTCP(w, tcp, atListener)
	udp, err := new(net.ListenConfig).ListenPacket(ctx, "udp", ":0")
	if err != nil {
		return fmt.Errorf("listen on the host: %w", err)
	}
	w.udp = serveUDP(w, udp, atListener)
	everywhere := netip.AddrPortFrom(netip.IPv4Unspecified(), 0)
	if tcp, err = transit.Listen(ctx, w.Config, everywhere); err != nil {
		return err
	}
	w.inner = serveTCP(w, tcp, atTransit)
	if udp, err = transit.ListenPacket(ctx, w.Config, netip.AddrPortFrom(netip.IPv4Unspecified(), w.inner)); err != nil {
		return err
	}
	serveUDP(w, udp, atTransit)
	return nil
}

// serveTCP notes what is said to a listener. That somebody connected is noticed by the
// one who did.
func serveTCP(w *world, l net.Listener, place string) uint16 {
	w.closers = append(w.closers, func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				_ = conn.SetDeadline(time.Now().Add(2 * time.Second))
				data, _ := io.ReadAll(io.LimitReader(conn, 256))
				w.judge.data(place, data)
			}()
		}
	}()
	return portOf(l.Addr())
}

func serveUDP(w *world, c net.PacketConn, place string) uint16 {
	w.closers = append(w.closers, func() { _ = c.Close() })
	go func() {
		buffer := make([]byte, snap)
		for {
			n, _, err := c.ReadFrom(buffer)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			w.judge.data(place, buffer[:n])
		}
	}()
	return portOf(c.LocalAddr())
}

func portOf(a net.Addr) uint16 {
	p, err := netip.ParseAddrPort(a.String())
	if err != nil {
		panic(err) // the address of a socket of IP
	}
	return p.Port()
}

// say sends data by UDP and by TCP from the thread's namespace: what only a process
// that is there may do, and the controls of the listeners do.
func say(network, to string, data []byte) error {
	conn, err := net.DialTimeout(network, to, time.Second)
	if err != nil {
		return err
	}
	_, err = conn.Write(data)
	return errors.Join(err, conn.Close())
}

// listening are TCP ports on which something of the host listens, lowest first, but
// never more than maxPorts.
func listening() ([]uint16, error) {
	f, err := os.Open("/proc/thread-self/net/tcp")
	if err != nil {
		return nil, fmt.Errorf("look for the host's listening ports: %w", err)
	}
	defer f.Close()
	ports, err := parseListening(f)
	if err != nil {
		return nil, fmt.Errorf("look for the host's listening ports: %w", err)
	}
	return ports[:min(len(ports), maxPorts)], nil
}

// parseListening reads the kernel's table of sockets.
func parseListening(r io.Reader) ([]uint16, error) {
	var ports []uint16
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 4 || fields[3] != "0A" { // LISTEN
			continue
		}
		_, port, ok := strings.Cut(fields[1], ":")
		n, err := strconv.ParseUint(port, 16, 16)
		if !ok || err != nil {
			return nil, fmt.Errorf("a line of the socket table: %s", hex.EncodeToString(lines.Bytes()))
		}
		ports = append(ports, uint16(n))
	}
	slices.Sort(ports)
	return slices.Compact(ports), lines.Err()
}

// hear connects until it is greeted: the greeter may have begun a moment ago.
func hear(from netip.AddrPort, greeting string) error {
	for end := time.Now().Add(greetTime); ; time.Sleep(50 * time.Millisecond) {
		said, err := line(from)
		switch {
		case err == nil && said == greeting:
			return nil
		case time.Now().After(end):
			return errors.Join(fmt.Errorf("%s was to greet, and said %q", from, said), err)
		}
	}
}

// greetTime is how long a greeting is waited for.
const greetTime = 5 * time.Second

func line(from netip.AddrPort) (string, error) {
	conn, err := net.DialTimeout("tcp", from.String(), time.Second)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(time.Second))
	data, err := io.ReadAll(io.LimitReader(conn, 256))
	return strings.TrimSpace(string(data)), err
}
