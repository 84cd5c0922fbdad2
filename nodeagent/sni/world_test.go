package sni

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"

	"brig/internal/netns"
	"brig/internal/netpolicy"
	"brig/internal/require"
	"brig/nodeagent/resolver"
)

// world is two network namespaces: in one are sandboxes, by source address, and the
// proxy, to which the kernel sends all that goes to port 443; in the other the internet.
// The resolver and its upstream are real.
type world struct {
	t               *testing.T
	inside, outside string
	*Proxy
	resolver *resolver.Resolver
	zone     zone

	mu     sync.Mutex // guards what follows
	of     map[netip.Addr]resolver.Sandbox
	denied []string
}

// zone has addresses by name; in another order than they were written they would be
// another answer, so it never changes.
type zone map[string][]string

func (z zone) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	m := new(dns.Msg).SetReply(q)
	question := q.Question[0]
	for _, addr := range z[question.Name] {
		if rr, err := dns.NewRR(fmt.Sprintf("%s 300 IN %s %s", question.Name, dns.TypeToString[question.Qtype], addr)); err == nil && strings.Contains(addr, ":") == (question.Qtype == dns.TypeAAAA) {
			m.Answer = append(m.Answer, rr)
		}
	}
	_ = w.WriteMsg(m)
}

// The addresses of the world.
const (
	one, two, six = "10.88.0.1", "10.88.0.2", "fd00:88::1" // sandboxes
	serverA       = "203.0.113.1"
	serverB       = "203.0.113.2"
	deadA         = "203.0.113.9" // has no server
	serverSix     = "2600::1"
)

func newWorld(t *testing.T) *world {
	require.Net(t)
	id := fmt.Sprintf("sni%06x", time.Now().UnixNano()&0xffffff)
	w := &world{t: t, inside: id + "-in", outside: id + "-out", of: map[netip.Addr]resolver.Sandbox{}, zone: zone{
		"a.example.com.": {serverA, deadA, serverSix}, "b.example.com.": {serverB}, "shared.example.com.": {serverA},
		"dead.example.com.": {deadA}, "c.example.org.": {serverB}, "other.example.org.": {serverB}, "fallback.example.com.": {deadA, serverB},
	}}
	for _, ns := range []string{w.inside, w.outside} {
		w.must(netns.Create(ns))
		t.Cleanup(func() {
			if err := netns.Delete(ns); err != nil {
				t.Error(err)
			}
		})
		w.run(ns, "ip link set lo up")
		for _, args := range []string{"203.0.113.0/24", "-6 2600::/64"} {
			family, prefix, found := strings.Cut(args, " ")
			if !found {
				family, prefix = "-4", args
			}
			w.run(ns, "ip "+family+" route add local "+prefix+" dev lo")
		}
	}
	w.run(w.outside, "ip addr add "+serverSix+"/128 dev lo nodad") // or it is tentative until the kernel gets round to it
	for _, addr := range []string{one + "/32 dev lo", two + "/32 dev lo", six + "/128 dev lo nodad"} {
		w.run(w.inside, "ip addr add "+addr)
	}
	w.run(w.inside, "nft table inet nat { chain out { type nat hook output priority -100; tcp dport 443 redirect to :8443; }; }")
	w.serveTLS()
	w.startProxy()
	return w
}

// bothListen on one port of UDP and TCP. One that is free for the one need not be for the
// other.
func bothListen() (p net.PacketConn, l net.Listener, err error) {
	for range 20 {
		if p, err = net.ListenPacket("udp", "127.0.0.1:0"); err != nil {
			return nil, nil, err
		}
		if l, err = net.Listen("tcp", p.LocalAddr().String()); err == nil {
			return p, l, nil
		}
		p.Close()
	}
	return nil, nil, err
}

func (w *world) startProxy() {
	p, l, err := bothListen()
	w.must(err)
	for _, s := range []*dns.Server{{PacketConn: p, Handler: w.zone}, {Listener: l, Handler: w.zone}} {
		go func() { _ = s.ActivateAndServe() }()
	}
	w.t.Cleanup(func() { p.Close(); l.Close() })
	log := slog.New(slog.DiscardHandler)
	w.resolver = resolver.New(resolver.Config{
		Upstreams: func() ([]string, error) { return []string{p.LocalAddr().String()}, nil },
		Policies:  w, Node: func(netip.Addr) bool { return false }, Log: log,
	})
	w.Proxy = New(Config{Policies: w, Names: w.resolver, Denials: w, Log: log, Dial: func(ctx context.Context, to netip.AddrPort) (conn *net.TCPConn, err error) {
		failed := netns.Do(netns.Path(w.outside), func() error { conn, err = Dial(ctx, to); return nil })
		return conn, errors.Join(failed, err)
	}})
	listener := w.listen(w.inside, ":8443")
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- w.Serve(ctx, listener) }()
	w.t.Cleanup(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			w.t.Errorf("serve: %v; want the context's end", err)
		}
		if s := w.Stats(); s.Live != 0 || w.all != 0 || len(w.one) != 0 {
			w.t.Errorf("after the end: %+v, %d connections counted", s, w.all)
		}
	})
}

func (w *world) Of(source netip.Addr) (resolver.Sandbox, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s, ok := w.of[source]
	return s, ok
}

func (w *world) Denied(link, reason, name string, dst netip.AddrPort) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.denied = append(w.denied, fmt.Sprintf("%s %s %q %s", link, reason, name, dst))
}

// denials since the last call.
func (w *world) denials() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	text := strings.Join(w.denied, ", ")
	w.denied = nil
	return text
}

// give the sandbox with the source address a policy; without entries it is gone.
func (w *world) give(source string, entries ...string) {
	w.t.Helper()
	p, err := netpolicy.Compile(netpolicy.Spec{DomainAllowlist: &entries}, netpolicy.Ceiling{})
	w.must(err)
	w.set(source, p, len(entries) > 0)
}

func (w *world) set(source string, p netpolicy.Policy, there bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	addr := netip.MustParseAddr(source)
	s := resolver.Sandbox{Link: "brg-" + source, Policy: p, Generation: w.of[addr].Generation + 1, IPv6: true}
	if w.of[addr] = s; !there {
		delete(w.of, addr)
	}
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) run(ns, args string) {
	w.t.Helper()
	argv := strings.Fields(args)
	if argv[0] == "nft" {
		argv = []string{"nft", strings.TrimPrefix(args, "nft ")}
	}
	out, err := exec.Command("ip", append([]string{"netns", "exec", ns}, argv...)...).CombinedOutput()
	if err != nil {
		w.t.Fatalf("%s: %v: %s", args, err, out)
	}
}

func (w *world) listen(ns, address string) (l net.Listener) {
	w.t.Helper()
	w.must(netns.Do(netns.Path(ns), func() (err error) { l, err = net.Listen("tcp", address); return err }))
	return l
}

// serveTLS greets with the name that was asked for and the server's own address, then
// sends back what it gets, to the end.
func (w *world) serveTLS() {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	w.must(err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	w.must(err)
	config := &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{cert}, PrivateKey: key}}, NextProtos: []string{"h2", "http/1.1"}}
	for _, addr := range []string{serverA, serverB, "[" + serverSix + "]"} {
		l := w.listen(w.outside, addr+":443")
		w.t.Cleanup(func() { l.Close() })
		go func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				go greet(tls.Server(conn, config))
			}
		}()
	}
}

func greet(conn *tls.Conn) {
	defer conn.Close()
	if conn.Handshake() != nil {
		return
	}
	state := conn.ConnectionState()
	at := conn.LocalAddr().(*net.TCPAddr).AddrPort().Addr().Unmap()
	if _, err := fmt.Fprintf(conn, "%s at %s by %s\n", state.ServerName, at, state.NegotiatedProtocol); err != nil {
		return
	}
	_, _ = io.Copy(conn, conn)
}

// connect from a sandbox to a port of an address, which the kernel sends to the proxy
// if it is 443.
func (w *world) connect(source, to string) (conn *net.TCPConn, err error) {
	w.t.Helper()
	failed := netns.Do(netns.Path(w.inside), func() error {
		d := net.Dialer{Timeout: 5 * time.Second}
		conn, err = d.DialTCP(w.t.Context(), "tcp", netip.AddrPortFrom(netip.MustParseAddr(source), 0), netip.MustParseAddrPort(to))
		return nil
	})
	w.must(failed)
	if err == nil {
		w.t.Cleanup(func() { conn.Close() })
		w.must(conn.SetDeadline(time.Now().Add(20 * time.Second)))
	}
	return conn, err
}

// dial is a connect that nobody refuses.
func (w *world) dial(source, to string) *net.TCPConn {
	w.t.Helper()
	conn, err := w.connect(source, to)
	w.must(err)
	return conn
}

func config(name string) *tls.Config {
	return &tls.Config{ServerName: name, InsecureSkipVerify: true, NextProtos: []string{"h2"}}
}

// greeting is what a sandbox gets that asks for name at an address: the server's first
// line, or the connection's end.
func (w *world) greeting(source, name, to string) string {
	w.t.Helper()
	raw, err := w.connect(source, net.JoinHostPort(to, "443"))
	if err != nil {
		return end(err)
	}
	conn := tls.Client(raw, config(name))
	defer conn.Close()
	return line(conn)
}

// line that comes next, or the connection's end.
func line(conn net.Conn) string {
	buffer := make([]byte, 200)
	n, err := conn.Read(buffer)
	if err != nil {
		return end(err)
	}
	return strings.TrimSuffix(string(buffer[:n]), "\n")
}

// end of a connection, as a word.
func end(err error) string {
	if errors.Is(err, unix.ECONNRESET) || errors.Is(err, unix.EPIPE) {
		return "reset"
	}
	return err.Error()
}
