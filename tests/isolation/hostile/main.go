// Command hostile is what a program in a sandbox can do to a network: it runs inside
// gVisor, as root and with raw sockets, and does what a file says.
//
//	hostile frames FILE   write Ethernet frames to eth0; FILE has each after its length in two bytes
//	hostile dial FILE     one attempt for each line "NETWORK ADDRESS MARKER", as net.Dial takes them,
//	                      or dgram6 for a datagram of IPv6; prints "LINE: RESULT"
//
// It ends with the line "end", so that a reader knows that all was tried.
package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Println("failed:", err)
	}
	fmt.Println("end")
}

func run(args []string) error {
	if len(args) != 2 {
		return errors.New("usage: hostile frames|dial FILE")
	}
	data, err := os.ReadFile(args[1])
	if err != nil {
		return err
	}
	if args[0] == "frames" {
		return frames(data)
	}
	dialAll(strings.Split(strings.TrimSpace(string(data)), "\n"))
	return nil
}

// dialAll tries some at a time, and the last when all others are done. It prints the
// results in the order of the lines.
func dialAll(lines []string) {
	results := make([]chan string, len(lines))
	for i := range lines {
		results[i] = make(chan string, 1)
	}
	next := make(chan int)
	var others sync.WaitGroup
	for range 32 {
		others.Go(func() {
			for i := range next {
				results[i] <- dial(strings.Fields(lines[i]))
			}
		})
	}
	last := len(lines) - 1
	go func() {
		for i := range last {
			next <- i
		}
		close(next)
		others.Wait()
		results[last] <- dial(strings.Fields(lines[last]))
	}()
	for i, line := range lines {
		fmt.Printf("%s: %s\n", line, <-results[i])
	}
}

// frames writes them one after the other, with the pace of a receiver that looks.
func frames(data []byte) error {
	link, err := net.InterfaceByName("eth0")
	if err != nil {
		return err
	}
	const all = unix.ETH_P_ALL>>8 | unix.ETH_P_ALL&0xff<<8 // network order
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW, all)
	if err != nil {
		return fmt.Errorf("packet socket: %w", err)
	}
	n := 0
	for ; len(data) > 2; n++ {
		size := 2 + int(binary.BigEndian.Uint16(data))
		if err := unix.Sendto(fd, data[2:size], 0, &unix.SockaddrLinklayer{Protocol: all, Ifindex: link.Index, Halen: 6}); err != nil {
			return fmt.Errorf("frame %d: %w", n, err)
		}
		data = data[size:]
		if n%50 == 49 {
			time.Sleep(time.Millisecond)
		}
	}
	fmt.Printf("wrote %d frames\n", n)
	return nil
}

// dial says what came of an attempt. Where there is no connection, "sent" is all that
// can be known here.
func dial(line []string) string {
	if len(line) != 3 {
		return "not a line"
	}
	network, address, marker := line[0], line[1], line[2]
	switch network {
	case "dgram6":
		return datagram6(address, marker)
	case "ip4:1":
		marker = echo(marker)
	}
	dialer := net.Dialer{Timeout: time.Second, Control: broadcasts}
	conn, err := dialer.DialContext(context.Background(), network, address)
	if err != nil {
		return outcome(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte(marker)); err != nil {
		return outcome(err)
	}
	if strings.HasPrefix(network, "tcp") {
		return "open"
	}
	return "sent"
}

// datagram6 sends by an IPv6 socket whatever the address means; net would take an
// IPv4-mapped one for IPv4.
func datagram6(address, marker string) string {
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return err.Error()
	}
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM, 0)
	if err != nil {
		return outcome(err)
	}
	defer unix.Close(fd)
	sa := &unix.SockaddrInet6{Port: int(to.Port()), Addr: to.Addr().As16()}
	if zone := to.Addr().Zone(); zone != "" {
		link, err := net.InterfaceByName(zone)
		if err != nil {
			return err.Error()
		}
		sa.ZoneId = uint32(link.Index)
	}
	if err := unix.Sendto(fd, []byte(marker), 0, sa); err != nil {
		return outcome(err)
	}
	return "sent"
}

// echo is a ping that carries the marker.
func echo(marker string) string {
	b := append([]byte{8, 0, 0, 0, 0, 7, 0, 1}, marker...)
	var sum uint32
	for i, c := range b {
		sum += uint32(c) << (8 * (1 - i%2))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	binary.BigEndian.PutUint16(b[2:], ^uint16(sum))
	return string(b)
}

// broadcasts lets a datagram socket send to broadcast addresses.
func broadcasts(_, _ string, c syscall.RawConn) error {
	var err error
	failed := c.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_BROADCAST, 1)
	})
	return errors.Join(failed, err)
}

func outcome(err error) string {
	var timeout net.Error
	switch {
	case errors.As(err, &timeout) && timeout.Timeout():
		return "silence"
	case errors.Is(err, unix.ECONNREFUSED), errors.Is(err, unix.EHOSTUNREACH), errors.Is(err, unix.ENETUNREACH), errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		return "refused"
	default:
		return err.Error()
	}
}
