package server

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// Callers that send large messages and never end them take a bounded part of brigd's
// memory, and give it back when they go.
func TestBodiesAreBounded(t *testing.T) {
	s := serve(t)
	const size = 8<<20 - 1
	begin := func() net.Conn {
		conn, err := net.Dial("unix", s.cfg.Socket)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		fmt.Fprintf(conn, "POST /brig.v1.Sandboxes/Create HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n", size)
		return conn
	}
	var stalled []net.Conn
	for range maxBodiesOfOne / size {
		conn := begin()
		if _, err := io.WriteString(conn, strings.Repeat(" ", size-1)); err != nil {
			t.Fatal(err)
		}
		stalled = append(stalled, conn)
	}
	if code := refused(t, begin(), size); code != http.StatusTooManyRequests {
		t.Errorf("status %d; want %d", code, http.StatusTooManyRequests)
	}
	for _, c := range stalled {
		c.Close()
	}
	for until := time.Now().Add(5 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if code := refused(t, begin(), size); code == http.StatusBadRequest {
			return
		} else if time.Now().After(until) {
			t.Fatalf("after the others have gone: status %d; want %d", code, http.StatusBadRequest)
		}
	}
}

// refused sends a whole body of blanks, which is no message.
func refused(t *testing.T, conn net.Conn, size int) int {
	t.Helper()
	go func() { _, _ = io.WriteString(conn, strings.Repeat(" ", size)) }() // fails when it is not read
	if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	return answer.StatusCode
}
