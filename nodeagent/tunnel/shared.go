package tunnel

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
)

// challengeProtocol is what an ACME authority offers by ALPN, and nothing beside it,
// when it looks whether a name leads here (RFC 8737).
const challengeProtocol = "acme-tls/1"

// Of the node's connections one in pendingPart may be in a handshake at the shared port,
// where they are nobody's yet, and of these one in sourcePart from one source, but a few
// in any case: an ACME authority looks several times at once.
const (
	pendingPart = 8
	sourcePart  = 16
	sourceLeast = 16
)

// relistenWait is the pause between tries to get the shared port.
const relistenWait = time.Second

// Shared leads TLS connections of one port to tunnels by the name that clients show.
// Whoever names nobody, somebody who is not here, a tunnel that does not admit him or
// one that has too many connections gets the same answer on the same way: it tells
// nothing of what there is.
type Shared struct {
	listen    netip.AddrPort
	challenge func(*tls.ClientHelloInfo) (*tls.Certificate, error)
	log       *slog.Logger

	pending *Share // of a pool of its own
	sources sources
	taken   int

	mu     sync.Mutex // guards what follows
	routes map[string]*Tunnel
}

// NewShared returns one that leads nobody anywhere yet. challenge, if set, has the
// certificates that answer an ACME authority.
func NewShared(listen netip.AddrPort, l Limits, challenge func(*tls.ClientHelloInfo) (*tls.Certificate, error), log *slog.Logger) *Shared {
	most := max(l.Node/pendingPart, 1)
	pool := NewPool(Limits{Node: most, Sandbox: most, Tunnel: most, Source: max(most/sourcePart, sourceLeast)})
	return &Shared{
		listen: listen, challenge: challenge, log: log,
		pending: pool.Share(), sources: sources{}, routes: map[string]*Tunnel{},
	}
}

// Add leads t's Name to it, Remove leads it nowhere. A name of another tunnel is an
// error: names never change hands.
func (s *Shared) Add(t *Tunnel) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.routes[t.cfg.Name] != nil || t.cfg.Name == "" || t.tls == nil {
		return fmt.Errorf("%q names another tunnel", t.cfg.Name)
	}
	s.routes[t.cfg.Name] = t
	return nil
}

// Remove undoes Add.
func (s *Shared) Remove(t *Tunnel) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.routes[t.cfg.Name] == t {
		delete(s.routes, t.cfg.Name)
	}
}

// Keep serves until ctx ends. A port that somebody else has is tried again and again,
// and never taken.
func (s *Shared) Keep(ctx context.Context) {
	told := ""
	for ctx.Err() == nil {
		err := s.Serve(ctx)
		if ctx.Err() != nil {
			return
		}
		if err != nil && err.Error() != told {
			s.log.Error("serve the port that tunnels share", "err", err)
			told = err.Error()
		}
		select {
		case <-ctx.Done():
		case <-time.After(relistenWait):
		}
	}
}

// Serve until ctx ends or the socket breaks, and return when no handshake is under way
// any more.
func (s *Shared) Serve(ctx context.Context) error {
	l, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(s.listen))
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	accept(ctx, l, s.log, func(conn *net.TCPConn) {
		who := counted(sourceOf(conn))
		if s.pending.take(s.sources, &s.taken, who) != nil {
			reset(conn)
			return
		}
		wg.Go(func() { s.serve(ctx, conn, who) })
	})
	return errors.New("the socket broke")
}

// serve owns conn until it knows whose it is.
func (s *Shared) serve(ctx context.Context, conn *net.TCPConn, who netip.Addr) {
	stop := context.AfterFunc(ctx, func() { reset(conn) })
	v := &visit{shared: s, conn: conn}
	// A configuration of its own: no session ticket of one name is good for another.
	secure := tls.Server(conn, &tls.Config{MinVersion: tls.VersionTLS13, GetConfigForClient: v.route})
	err := shake(ctx, secure)
	s.pending.give(s.sources, &s.taken, who)
	stop()
	if v.tunnel == nil || err != nil {
		s.log.Debug("a client of the shared port was not led on", "err", err)
		_ = conn.Close() // no reset: the alert is to arrive
		if v.tunnel != nil {
			v.leave()
		}
		return
	}
	go func() { // its tunnel waits for it
		defer v.leave()
		v.tunnel.lead(conn, secure)
	}()
}

// visit is a connection that finds its tunnel in the handshake.
type visit struct {
	shared *Shared
	conn   *net.TCPConn
	tunnel *Tunnel // set when it was admitted
	leave  func()
}

func (v *visit) route(hello *tls.ClientHelloInfo) (*tls.Config, error) {
	if v.shared.challenge != nil && slices.Equal(hello.SupportedProtos, []string{challengeProtocol}) {
		return v.shared.answer(), nil
	}
	t := v.shared.find(hello.ServerName)
	if t == nil {
		return nobody, nil
	}
	leave, ok := t.admit(v.conn)
	if !ok {
		return nobody, nil
	}
	stop := context.AfterFunc(t.ctx, func() { reset(v.conn) })
	v.tunnel, v.leave = t, func() { stop(); leave() }
	return t.configFor(hello)
}

func (s *Shared) find(name string) *Tunnel {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.routes[strings.ToLower(name)]
}

// answer is for ACME authorities: a certificate that proves the name, and then nothing.
func (s *Shared) answer() *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS12, // what RFC 8737 asks for
		NextProtos:             []string{challengeProtocol},
		SessionTicketsDisabled: true,
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			c, err := s.challenge(hello)
			if err != nil {
				s.log.Debug("a challenge that nobody waits for", "name", hello.ServerName, "err", err)
				return nil, nil // like any name that is not here
			}
			return c, nil
		},
	}
}
