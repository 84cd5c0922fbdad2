package sni

import (
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"runtime"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"brig/internal/netpolicy"
)

// TestWhoGetsWhere is the table of what a sandbox may connect to by name.
func TestWhoGetsWhere(t *testing.T) {
	w := newWorld(t)
	w.give(one, "*.example.com")
	w.give(two, "c.example.org", "other.example.org:8443")
	w.give(six, "a.example.com")
	for _, tc := range []struct{ what, source, name, to, want, denied string }{
		{"a listed name", one, "a.example.com", serverA, "a.example.com at 203.0.113.1 by h2", ""},
		{"in capitals", one, "A.Example.COM", serverA, "A.Example.COM at 203.0.113.1 by h2", ""},
		{"another name of the address", one, "shared.example.com", serverA, "shared.example.com at 203.0.113.1 by h2", ""},
		{"an address of another name", one, "a.example.com", serverB, "reset", `brg-10.88.0.1 sni "a.example.com" 203.0.113.2:443`},
		{"an address of no name", one, "a.example.com", "203.0.113.77", "reset", `brg-10.88.0.1 sni "a.example.com" 203.0.113.77:443`},
		{"a name of another sandbox", one, "c.example.org", serverB, "reset", `brg-10.88.0.1 sni "c.example.org" 203.0.113.2:443`},
		{"the other sandbox", two, "c.example.org", serverB, "c.example.org at 203.0.113.2 by h2", ""},
		{"a name for another port", two, "other.example.org", serverB, "reset", `brg-10.88.0.2 sni "other.example.org" 203.0.113.2:443`},
		{"the parent of a wildcard", one, "example.com", serverA, "reset", `brg-10.88.0.1 sni "example.com" 203.0.113.1:443`},
		{"no name", one, "", serverA, "reset", `brg-10.88.0.1 sni "" 203.0.113.1:443`},
		{"an address for a name", one, serverA, serverA, "reset", `brg-10.88.0.1 sni "" 203.0.113.1:443`},
		{"a name that is none", one, "a b.example.com", serverA, "reset", `brg-10.88.0.1 sni "" 203.0.113.1:443`},
		{"a name without an address", one, "none.example.com", serverA, "reset", `brg-10.88.0.1 sni "none.example.com" 203.0.113.1:443`},
		{"a dead address of a name with others", one, "fallback.example.com", deadA, "fallback.example.com at 203.0.113.2 by h2", ""},
		{"a dead address", one, "dead.example.com", deadA, "reset", ""},
		{"nobody's source", "127.0.0.1", "a.example.com", serverA, "reset", ""},
		{"IPv6", six, "a.example.com", serverSix, "a.example.com at 2600::1 by h2", ""},
		{"IPv6, an address of no name", six, "a.example.com", "2600::2", "reset", `brg-fd00:88::1 sni "a.example.com" [2600::2]:443`},
	} {
		if diff := cmp.Diff(tc.want, w.greeting(tc.source, tc.name, tc.to)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tc.what, diff)
		}
		if diff := cmp.Diff(tc.denied, w.denials()); diff != "" {
			t.Errorf("%s is denied (-want +got):\n%s", tc.what, diff)
		}
	}
	w.set(two, netpolicy.Open(), true)
	if got := w.greeting(two, "c.example.org", serverB); got != "reset" {
		t.Errorf("a sandbox whose policy has no names: %s", got)
	}
	w.dial(one, serverA+":443").Close()
	w.until("a client that leaves is counted", func() bool { return w.Stats().Failed == 2 })
	if got := w.denials(); got != "" {
		t.Errorf("a client that leaves is denied: %s", got)
	}
	plain := w.dial(one, serverA+":443")
	if _, err := io.WriteString(plain, "GET / HTTP/1.1\r\nHost: a.example.com\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if got := line(plain); got != "reset" {
		t.Errorf("no TLS: %s", got)
	}
	direct, err := w.connect(one, "127.0.0.1:8443")
	if err == nil {
		_, err = tls.Client(direct, config("a.example.com")).Read(make([]byte, 1))
	}
	if got := end(err); got != "reset" {
		t.Errorf("the proxy's own address: %s", got)
	}
}

// Both directions end on their own, nothing is lost or changed, and it is counted.
func TestCopies(t *testing.T) {
	w := newWorld(t)
	w.give(one, "a.example.com")
	raw := w.dial(one, serverA+":443")
	conn := tls.Client(raw, config("a.example.com"))
	if got := line(conn); got != "a.example.com at 203.0.113.1 by h2" {
		t.Fatal(got)
	}
	sent := make([]byte, 8<<20)
	if _, err := rand.Read(sent); err != nil {
		t.Fatal(err)
	}
	go func() {
		if _, err := conn.Write(sent); err != nil {
			t.Error(err)
		}
		if err := conn.CloseWrite(); err != nil {
			t.Error(err)
		}
		if err := raw.CloseWrite(); err != nil {
			t.Error(err)
		}
	}()
	received, err := io.ReadAll(conn)
	if err != nil || !bytes.Equal(sent, received) {
		t.Errorf("sent %d bytes, %d came back, %v", len(sent), len(received), err)
	}
	w.until("the connection ended", func() bool { return w.Stats().Live == 0 })
	if s := w.Stats(); s.Sent < 8<<20 || s.Received < 8<<20 || s.Accepted != 1 || s.Refused != 0 || s.Failed != 0 {
		t.Errorf("counted %+v", s)
	}
}

// A policy that no longer lists the name resets the connections made under it, at once
// when told and within seconds when not; one that still lists it does not touch them.
func TestPolicyChange(t *testing.T) {
	w := newWorld(t)
	open := func(name, to string) *tls.Conn {
		t.Helper()
		conn := tls.Client(w.dial(one, to+":443"), config(name))
		if got := line(conn); got == "reset" {
			t.Fatalf("%s is reset", name)
		}
		return conn
	}
	w.give(one, "a.example.com", "b.example.com")
	w.give(two, "c.example.org")
	a, b := open("a.example.com", serverA), open("b.example.com", serverB)
	other := tls.Client(w.dial(two, serverB+":443"), config("c.example.org"))
	line(other)
	echoes := func(conn *tls.Conn) string {
		t.Helper()
		if _, err := io.WriteString(conn, "hi"); err != nil {
			return err.Error()
		}
		return line(conn)
	}
	w.give(one, "b.example.com")
	w.Recheck("brg-" + two)
	if got := echoes(a); got != "hi" {
		t.Errorf("after the check of another sandbox: %s", got)
	}
	begun := time.Now()
	w.Recheck("brg-" + one)
	if got := line(a); got != "reset" || time.Since(begun) > time.Second {
		t.Errorf("a name that is listed no more: %s after %v", got, time.Since(begun))
	}
	if got := w.denials(); got != `brg-10.88.0.1 sni "a.example.com" 203.0.113.1:443` {
		t.Errorf("denied %s", got)
	}
	if got := echoes(b); got != "hi" {
		t.Errorf("a name that is still listed: %s", got)
	}
	w.set(one, netpolicy.Open(), true)
	w.Recheck("brg-" + one)
	if got := echoes(b); got != "hi" {
		t.Errorf("a policy that admits the address: %s", got)
	}
	w.give(one)
	begun = time.Now()
	if got := line(b); got != "reset" || time.Since(begun) > 2*recheckEvery {
		t.Errorf("a sandbox that is gone: %s after %v", got, time.Since(begun))
	}
	if got := echoes(other); got != "hi" {
		t.Errorf("another sandbox: %s", got)
	}
}

// One sandbox cannot take the connections of others, and what waits costs little.
func TestFlood(t *testing.T) {
	w := newWorld(t)
	w.give(one, "a.example.com")
	w.give(two, "c.example.org")
	goroutines, before := runtime.NumGoroutine(), memory()
	var flood []*net.TCPConn
	for range maxOfOne {
		flood = append(flood, w.dial(one, serverA+":443"))
	}
	w.until("all are accepted", func() bool { return w.Stats().Accepted == maxOfOne })
	after := memory()
	for range 10 {
		if conn, err := w.connect(one, serverA+":443"); err == nil && line(conn) != "reset" || err != nil && end(err) != "reset" {
			t.Errorf("one too many: %v", err)
		}
	}
	if got := w.greeting(two, "c.example.org", serverB); got != "c.example.org at 203.0.113.2 by h2" {
		t.Errorf("another sandbox: %s", got)
	}
	// The test's own end of each connection is in it, too.
	if each := (after - before) / maxOfOne; after > before && each > 64<<10 {
		t.Errorf("a connection that says nothing costs %d bytes", each)
	}
	for _, conn := range flood {
		conn.Close()
	}
	w.until("the places are given back", func() bool { return w.greeting(one, "a.example.com", serverA) != "reset" })
	w.until("the goroutines are gone", func() bool { return runtime.NumGoroutine() <= goroutines+10 })
}

func memory() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse + m.StackInuse
}

func (w *world) until(what string, done func() bool) {
	w.t.Helper()
	for end := time.Now().Add(10 * time.Second); !done(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			w.t.Fatal(fmt.Sprint("not after ten seconds: ", what))
		}
	}
}
