package sni

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"brig/nodeagent/resolver"
)

var (
	errSeen   = errors.New("the name is known")
	errLong   = fmt.Errorf("the handshake's first message is longer than %d bytes", maxHello)
	errNoName = errors.New("the handshake names no host")
	errLeft   = errors.New("the client left without a word")
)

// readHello reads the first message of a TLS handshake and returns the host that it
// names, with everything that was read. The parser is the one of crypto/tls: it takes
// messages in any number of pieces, and none with two names.
func readHello(conn net.Conn) (host string, head []byte, err error) {
	if err := conn.SetReadDeadline(time.Now().Add(helloTimeout)); err != nil {
		return "", nil, err
	}
	l := &listener{Conn: conn}
	seen := false
	config := &tls.Config{GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		host, seen = hello.ServerName, true
		return nil, errSeen
	}}
	if err := tls.Server(l, config).Handshake(); !seen && l.heard.Len() == 0 && errors.Is(err, io.EOF) {
		return "", nil, errLeft // it lost a race of several connections, say
	} else if !seen {
		return "", nil, errors.Join(errors.New("read the handshake's first message"), err)
	}
	host, ok := resolver.Hostname(host)
	if !ok {
		return "", nil, errNoName
	}
	return host, l.heard.Bytes(), conn.SetReadDeadline(time.Time{})
}

// listener reads a bounded part of a connection, keeps it, and says nothing.
type listener struct {
	net.Conn
	heard bytes.Buffer
}

// Read keeps what it reads.
func (l *listener) Read(b []byte) (int, error) {
	left := maxHello - l.heard.Len()
	if left == 0 {
		return 0, errLong
	}
	n, err := l.Conn.Read(b[:min(left, len(b))])
	l.heard.Write(b[:n])
	return n, err
}

// Write is an error.
func (l *listener) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

// Close leaves the connection open.
func (l *listener) Close() error { return nil }
