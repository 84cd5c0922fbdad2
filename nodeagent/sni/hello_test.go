package sni

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"brig/nodeagent/resolver"
)

// hello is the first message of a client that asks for name, as it goes over the wire.
func hello(name string) []byte {
	client, server := net.Pipe()
	defer server.Close()
	go func() { _ = tls.Client(client, config(name)).Handshake(); client.Close() }()
	header := make([]byte, 5)
	if _, err := io.ReadFull(server, header); err != nil {
		panic(err)
	}
	body := make([]byte, int(header[3])<<8|int(header[4]))
	if _, err := io.ReadFull(server, body); err != nil {
		panic(err)
	}
	return append(header, body...)
}

// split is a connection that writes in pieces.
type split struct {
	net.Conn
	pieces func([]byte) [][]byte
}

func (s split) Write(b []byte) (int, error) {
	for _, piece := range s.pieces(b) {
		if _, err := s.Conn.Write(piece); err != nil {
			return 0, err
		}
	}
	return len(b), nil
}

// A hello in many segments, or in many records, is the same hello.
func TestSplitHello(t *testing.T) {
	w := newWorld(t)
	w.give(one, "a.example.com")
	first := true
	for what, pieces := range map[string]func([]byte) [][]byte{
		"octet by octet": func(b []byte) (list [][]byte) {
			for i := range b {
				list = append(list, b[i:i+1])
			}
			return list
		},
		"in many records": func(b []byte) (list [][]byte) {
			if !first {
				return [][]byte{b}
			}
			first = false
			for body := b[5:]; len(body) > 0; {
				n := min(50, len(body))
				list = append(list, append([]byte{b[0], b[1], b[2], 0, byte(n)}, body[:n]...))
				body = body[n:]
			}
			return list
		},
	} {
		conn := tls.Client(split{w.dial(one, serverA+":443"), pieces}, config("a.example.com"))
		if got := line(conn); got != "a.example.com at 203.0.113.1 by h2" {
			t.Errorf("%s: %s", what, got)
		}
	}
}

// A client that takes its time has five seconds for all of its hello, however it
// trickles.
func TestSlowHello(t *testing.T) {
	w := newWorld(t)
	w.give(one, "a.example.com")
	silent, trickling := w.dial(one, serverA+":443"), w.dial(one, serverA+":443")
	begun := time.Now()
	go func() {
		for _, b := range hello("a.example.com") {
			if _, err := trickling.Write([]byte{b}); err != nil {
				return
			}
			time.Sleep(100 * time.Millisecond)
		}
	}()
	for what, conn := range map[string]net.Conn{"silent": silent, "trickling": trickling} {
		if got := line(conn); got != "reset" || time.Since(begun) > helloTimeout+2*time.Second || time.Since(begun) < helloTimeout-time.Second {
			t.Errorf("%s: %s after %v", what, got, time.Since(begun))
		}
	}
}

func TestLongHello(t *testing.T) {
	w := newWorld(t)
	w.give(one, "a.example.com")
	conn := w.dial(one, serverA+":443")
	begun := time.Now()
	// Records of a hello that claims 60,000 octets.
	record := append([]byte{22, 3, 1, 0x20, 0, 1, 0, 0xea, 0x60}, make([]byte, 0x2000-4)...)
	got := ""
	for range 4 {
		if _, err := conn.Write(record); err != nil {
			got = end(err) // a reset is told once
			break
		}
		record = append([]byte{22, 3, 1, 0x20, 0}, make([]byte, 0x2000)...)
	}
	if got == "" {
		got = line(conn)
	}
	if got != "reset" || time.Since(begun) > 3*time.Second {
		t.Errorf("%s after %v", got, time.Since(begun))
	}
}

// heard reads a hello that lies ready, and then nothing comes.
func heard(data []byte) (string, []byte, error) {
	return readHello(ready{bytes.NewReader(data)})
}

type ready struct{ *bytes.Reader }

func (r ready) Read(b []byte) (int, error) {
	n, err := r.Reader.Read(b)
	if err != nil {
		err = os.ErrDeadlineExceeded
	}
	return n, err
}
func (ready) Write([]byte) (int, error)        { return 0, errors.New("the proxy says nothing to a client") }
func (ready) Close() error                     { return errors.New("the connection is not the parser's to close") }
func (ready) LocalAddr() net.Addr              { return nil }
func (ready) RemoteAddr() net.Addr             { return nil }
func (ready) SetDeadline(time.Time) error      { return nil }
func (ready) SetReadDeadline(time.Time) error  { return nil }
func (ready) SetWriteDeadline(time.Time) error { return nil }

// twoNames is a hello whose list has a second name, in an extension of its own if apart.
func twoNames(apart bool) []byte {
	list := func(names ...string) []byte {
		var entries []byte
		for _, name := range names {
			entries = append(entries, 0, 0, byte(len(name)))
			entries = append(entries, name...)
		}
		body := append([]byte{0, byte(len(entries))}, entries...)
		return append([]byte{0, 0, 0, byte(len(body))}, body...)
	}
	extensions := list("a.example.com", "b.example.com")
	if apart {
		extensions = append(list("a.example.com"), list("b.example.com")...)
	}
	body := append([]byte{3, 3}, make([]byte, 32)...)
	body = append(body, 0, 0, 2, 0x13, 1, 1, 0, 0, byte(len(extensions)))
	body = append(body, extensions...)
	message := append([]byte{1, 0, 0, byte(len(body))}, body...)
	return append([]byte{22, 3, 1, 0, byte(len(message))}, message...)
}

func TestReadHello(t *testing.T) {
	whole := hello("a.example.com")
	host, head, err := heard(append(whole, "early data"...))
	if err != nil || host != "a.example.com" || !bytes.HasPrefix(append(whole, "early data"...), head) || len(head) < len(whole) {
		t.Errorf("%s, %d octets of %d, %v", host, len(head), len(whole), err)
	}
	for what, data := range map[string][]byte{
		"two names": twoNames(false), "two lists of names": twoNames(true), "nothing": nil, "half": whole[:len(whole)/2],
		"no name": hello(""), "a server's hello": append([]byte{22, 3, 3, 0, 4}, 2, 0, 0, 0),
	} {
		if host, _, err := heard(data); err == nil || host != "" {
			t.Errorf("%s: %q, %v", what, host, err)
		}
	}
}

func FuzzReadHello(f *testing.F) {
	for _, data := range [][]byte{hello("a.example.com"), hello(""), twoNames(false), twoNames(true), nil, []byte("GET / HTTP/1.1\r\n\r\n")} {
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		host, head, err := heard(data)
		if err != nil {
			if host != "" {
				t.Errorf("%q came with %v", host, err)
			}
			return
		}
		if same, ok := resolver.Hostname(host); !ok || same != host || len(head) > maxHello || !bytes.HasPrefix(data, head) {
			t.Errorf("%q, %d octets", host, len(head))
		}
	})
}
