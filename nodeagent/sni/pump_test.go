package sni

import (
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A connection that waits for bytes holds no buffer: there are thousands of them.
func TestWaitingHoldsNoBuffer(t *testing.T) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fds[1])
	errWait := errors.New("nothing to read")
	read := func(try func(uintptr) bool) error {
		if try(uintptr(fds[1])) {
			return nil
		}
		return errWait
	}
	if buffer, n, err := receive(read); buffer != nil || n != 0 || !errors.Is(err, errWait) {
		t.Errorf("without data: a buffer %t, %d octets, %v", buffer != nil, n, err)
	}
	if _, err := unix.Write(fds[0], []byte("hi")); err != nil {
		t.Fatal(err)
	}
	if buffer, n, err := receive(read); err != nil || string(buffer[:n]) != "hi" {
		t.Errorf("with data: %d octets, %v", n, err)
	}
	unix.Close(fds[0])
	if _, n, err := receive(read); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("at the end: %d octets, %v", n, err)
	}
}

// pair is a connection, both ends of it.
func pair(t *testing.T) (a, b *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dialled, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	accepted, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	for _, conn := range []net.Conn{dialled, accepted} {
		t.Cleanup(func() { conn.Close() })
		if err := conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
			t.Fatal(err)
		}
	}
	return dialled.(*net.TCPConn), accepted.(*net.TCPConn)
}

// The end of one direction is passed on, and the other goes on for as long as it likes.
func TestHalfClose(t *testing.T) {
	client, inner := pair(t)
	outer, server := pair(t)
	var p Proxy
	done := make(chan struct{})
	go func() { defer close(done); p.join(&connection{client: inner, server: outer}) }()
	if _, err := io.WriteString(client, "question"); err != nil {
		t.Fatal(err)
	}
	if err := client.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(server); err != nil || string(got) != "question" {
		t.Errorf("the server got %q, %v", got, err)
	}
	if _, err := io.WriteString(server, "answer"); err != nil {
		t.Fatal(err)
	}
	server.Close()
	if got, err := io.ReadAll(client); err != nil || string(got) != "answer" {
		t.Errorf("the client got %q, %v", got, err)
	}
	<-done
	if sent, received := p.stats.sent.Load(), p.stats.received.Load(); sent != 8 || received != 6 {
		t.Errorf("counted %d and %d octets", sent, received)
	}
}

// A direction that breaks takes the other one with it.
func TestReset(t *testing.T) {
	client, inner := pair(t)
	outer, server := pair(t)
	var p Proxy
	done := make(chan struct{})
	go func() { defer close(done); p.join(&connection{client: inner, server: outer}) }()
	reset(server)
	if got := line(client); got != "reset" {
		t.Errorf("the client sees %s", got)
	}
	<-done
}
