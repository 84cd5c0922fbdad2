package isolation

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
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"

	"brig/internal/netns"
	"brig/internal/netpolicy"
	"brig/internal/netpolicy/nft"
	"brig/internal/transit"
	"brig/nodeagent/names"
	"brig/nodeagent/sni"
)

// zone is the internet's DNS: addresses by name.
type zone map[string][]string

func (z zone) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	m := new(dns.Msg).SetReply(q)
	name := q.Question[0].Name
	records, ok := z[strings.ToLower(name)]
	if !ok {
		m.Rcode = dns.RcodeNameError
	}
	for _, text := range records {
		rr, err := dns.NewRR(text)
		if err != nil {
			panic(err)
		}
		m.Answer = append(m.Answer, rr)
	}
	_ = w.WriteMsg(m)
}

// upstream serves the zone where the test runs, and returns its address.
func (w *world) upstream(z zone) string {
	var p net.PacketConn
	var l net.Listener
	for { // one that is free for the one need not be for the other
		var err error
		l, err = net.Listen("tcp", "127.0.0.1:0")
		w.must(err)
		if p, err = net.ListenPacket("udp", l.Addr().String()); err == nil {
			break
		}
		l.Close()
	}
	for _, s := range []*dns.Server{{PacketConn: p, Handler: z}, {Listener: l, Handler: z}} {
		go func() { _ = s.ActivateAndServe() }()
	}
	w.t.Cleanup(func() { p.Close(); l.Close() })
	return p.LocalAddr().String()
}

// serveNames runs what brigd runs for names, and returns its end.
func (w *world) serveNames(upstream string) (*names.Names, func()) {
	n := names.New(names.Options{
		Config:    &w.cfg,
		Upstreams: func() ([]string, error) { return []string{upstream}, nil },
		Dial: func(ctx context.Context, to netip.AddrPort) (conn *net.TCPConn, err error) {
			failed := w.onHost(func() error { conn, err = sni.Dial(ctx, to); return nil })
			return conn, errors.Join(failed, err)
		},
		Addresses: func() ([]netip.Addr, error) { return []netip.Addr{hostAddr}, nil },
		Repair:    func(ctx context.Context) error { return w.onHost(func() error { return transit.Ensure(ctx, &w.cfg) }) },
		Log:       slog.New(slog.DiscardHandler),
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); n.Keep(ctx) }()
	stop := func() { cancel(); <-done }
	w.t.Cleanup(stop)
	return n, stop
}

// bind puts a policy in force as the gate does, and change another one as brigd does.
func (s *sandbox) bind(spec netpolicy.Spec) { s.police(spec, transit.Node.Bind) }

func (s *sandbox) changeTo(spec netpolicy.Spec) {
	s.police(spec, func(n transit.Node, link string, p netpolicy.Policy) (nft.Grant, error) {
		return n.Change(link, p, 0, 0)
	})
}

func (s *sandbox) police(spec netpolicy.Spec, put func(transit.Node, string, netpolicy.Policy) (nft.Grant, error)) {
	s.w.t.Helper()
	policy, err := netpolicy.Compile(spec, netpolicy.Ceiling{})
	s.w.must(err)
	s.w.must(s.w.onHost(func() error {
		return transit.With(s.w.t.Context(), &s.w.cfg, func(_ context.Context, n transit.Node) error {
			_, err := put(n, s.link(), policy)
			return err
		})
	}))
}

func byName(entries ...string) netpolicy.Spec { return netpolicy.Spec{DomainAllowlist: &entries} }

// serveTLS greets with the name that was asked for, on the internet.
func (w *world) serveTLS(address string) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	w.must(err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	w.must(err)
	config := &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{cert}, PrivateKey: key}}}
	var l net.Listener
	w.must(netns.Do(netns.Path(w.internet), func() (err error) { l, err = tls.Listen("tcp4", address, config); return err }))
	w.t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				if c := conn.(*tls.Conn); c.Handshake() == nil {
					fmt.Fprintf(c, "hello from %s", c.ConnectionState().ServerName)
				}
				echo(conn)
			}()
		}
	}()
}

// ask the node's resolver from the sandbox; the addresses, or the code.
func (s *sandbox) ask(server, name string, qtype uint16) string {
	result := "?"
	s.w.must(s.do(func() error {
		c := dns.Client{Timeout: time.Second}
		m, _, err := c.Exchange(new(dns.Msg).SetQuestion(name, qtype), server)
		switch {
		case err != nil:
			result = said(err, "no route to host", "refused")
		case len(m.Answer) == 0:
			result = dns.RcodeToString[m.Rcode]
		default:
			var all []string
			for _, rr := range m.Answer {
				all = append(all, strings.Fields(rr.String())[4])
			}
			result = strings.Join(all, " ")
		}
		return nil
	}))
	return result
}

// tls connects from the sandbox and asks for a name.
func (s *sandbox) tls(name string, to netip.Addr, port uint16) (*tls.Conn, string) {
	var raw net.Conn
	err := s.do(func() (err error) {
		raw, err = (&net.Dialer{Timeout: time.Second}).Dial("tcp4", netip.AddrPortFrom(to, port).String())
		return err
	})
	if err != nil {
		return nil, ending(err)
	}
	s.w.t.Cleanup(func() { raw.Close() })
	s.w.must(raw.SetDeadline(time.Now().Add(10 * time.Second)))
	conn := tls.Client(raw, &tls.Config{ServerName: name, InsecureSkipVerify: true})
	return conn, next(conn)
}

func next(conn net.Conn) string {
	buffer := make([]byte, 100)
	n, err := conn.Read(buffer)
	if err != nil {
		return ending(err)
	}
	return string(buffer[:n])
}

func ending(err error) string {
	if errors.Is(err, unix.ECONNRESET) {
		return "reset"
	}
	return outcome(err)
}

// TestNames: a sandbox with a list of names reaches those servers, by those names, and
// nothing else.
func TestNames(t *testing.T) {
	w := newWorld(t, "[network.limits]\nconnections = 0\nnew_connections = 0\n")
	for _, address := range []string{"203.0.113.2:443", "203.0.113.130:443", "203.0.113.2:8443"} {
		w.serveTLS(address)
	}
	for _, address := range []string{":80", "8.8.8.8:53", "8.8.8.8:853"} {
		w.listen(w.internet, address)
	}
	upstream := w.upstream(zone{
		"a.example.com.":       {"a.example.com. 300 IN CNAME a.cdn.example.net.", "a.cdn.example.net. 300 IN A 203.0.113.2"},
		"a.cdn.example.net.":   {"a.cdn.example.net. 300 IN A 203.0.113.2"},
		"b.example.com.":       {"b.example.com. 300 IN A 203.0.113.130"},
		"host.example.com.":    {"host.example.com. 300 IN A 203.0.113.1"},
		"private.example.com.": {"private.example.com. 300 IN A 10.20.0.1"},
		"other.example.org.":   {"other.example.org. 300 IN A 203.0.113.2"},
	})
	one, two := w.sandbox("s1"), w.sandbox("s2")
	one.bind(byName("*.example.com"))
	two.bind(byName("other.example.org:8443"))
	n, stop := w.serveNames(upstream)
	wire := w.capture(w.internet, "eth0")
	const resolver = "169.254.1.1:53"
	line := func(_ *tls.Conn, said string) string { return said }
	var got table
	w.awaitResolver(one)
	got.row("before it asked", line(one.tls("a.example.com", serverAddr, 443)))
	got.row("a listed name", one.ask(resolver, "a.example.com.", dns.TypeA))
	got.row("what it is a CNAME of", one.ask(resolver, "a.cdn.example.net.", dns.TypeA))
	got.row("IPv6 of it", one.ask(resolver, "a.example.com.", dns.TypeAAAA))
	got.row("service binding of it", one.ask(resolver, "a.example.com.", dns.TypeHTTPS))
	got.row("a name that leads to the host", one.ask(resolver, "host.example.com.", dns.TypeA))
	got.row("a name that leads inside", one.ask(resolver, "private.example.com.", dns.TypeA))
	got.row("another's name", one.ask(resolver, "other.example.org.", dns.TypeA))
	got.row("another resolver", one.ask("8.8.8.8:53", "a.example.com.", dns.TypeA))
	got.row("another resolver, TCP", try(one.ns, netip.MustParseAddr("8.8.8.8"), 53))
	got.row("another resolver, TLS", try(one.ns, netip.MustParseAddr("8.8.8.8"), 853))
	got.row("TLS to the name", line(one.tls("a.example.com", serverAddr, 443)))
	got.row("TLS to another listed name there", line(one.tls("b.example.com", serverAddr, 443)))
	got.row("TLS to an unlisted name there", line(one.tls("other.example.org", serverAddr, 443)))
	got.row("TLS to no name there", line(one.tls("", serverAddr, 443)))
	got.row("TLS to the name elsewhere", line(one.tls("a.example.com", otherAddr, 443)))
	got.row("another port there", try(one.ns, serverAddr, 80))
	got.row("the proxy itself", try(one.ns, netip.MustParseAddr(nft.Gateway), nft.SNIPort))
	one.say("udp-443-of-one", serverAddr, 443)
	got.row("the sibling before it asked", line(two.tls("other.example.org", serverAddr, 8443)))
	got.row("the sibling asks", two.ask(resolver, "other.example.org.", dns.TypeA))
	got.row("the sibling on its port", line(two.tls("other.example.org", serverAddr, 8443)))
	got.row("the sibling on 443", line(two.tls("other.example.org", serverAddr, 443)))
	got.row("one on the sibling's port", try(one.ns, serverAddr, 8443))
	got.compare(t, `
before it asked                    refused
a listed name                      203.0.113.2
what it is a CNAME of              NXDOMAIN
IPv6 of it                         NOERROR
service binding of it              NOERROR
a name that leads to the host      NXDOMAIN
a name that leads inside           NXDOMAIN
another's name                     NXDOMAIN
another resolver                   no route to host
another resolver, TCP              refused
another resolver, TLS              refused
TLS to the name                    hello from a.example.com
TLS to another listed name there   reset
TLS to an unlisted name there      reset
TLS to no name there               reset
TLS to the name elsewhere          refused
another port there                 refused
the proxy itself                   refused
the sibling before it asked        refused
the sibling asks                   203.0.113.2
the sibling on its port            hello from other.example.org
the sibling on 443                 refused
one on the sibling's port          refused
`)
	if wire.saw("udp-443-of-one") {
		t.Error("QUIC to a pinned address left the node")
	}
	namesChange(w, n, one, two)
	namesLease(w, one, two)
	namesWithoutBrigd(w, upstream, stop, one)
}

// namesChange: what a changed policy does not list ends, and what it lists goes on.
func namesChange(w *world, n *names.Names, one, two *sandbox) {
	live, said := one.tls("a.example.com", serverAddr, 443)
	other, saidOther := two.tls("other.example.org", serverAddr, 8443)
	if said != "hello from a.example.com" || saidOther != "hello from other.example.org" {
		w.t.Fatalf("%s, %s", said, saidOther)
	}
	one.changeTo(byName("b.example.com"))
	n.Recheck(one.link())
	var got table
	got.row("a name that is listed no more", next(live))
	got.row("the same, asked for again", one.ask("169.254.1.1:53", "a.example.com.", dns.TypeA))
	_, again := one.tls("a.example.com", serverAddr, 443)
	got.row("the same, connected again", again)
	got.row("a name that is listed now", one.ask("169.254.1.1:53", "b.example.com.", dns.TypeA))
	_, now := one.tls("b.example.com", otherAddr, 443)
	got.row("the same, connected", now)
	_, err := io.WriteString(other, "still there")
	w.must(err)
	got.row("the sibling's connection", next(other))
	got.compare(w.t, `
a name that is listed no more      reset
the same, asked for again          NXDOMAIN
the same, connected again          refused
a name that is listed now          203.0.113.130
the same, connected                hello from b.example.com
the sibling's connection           still there
`)
}

// namesLease: what a lease listed ends with it, pins and connections.
func namesLease(w *world, one, two *sandbox) {
	const lease = 2 * time.Second
	begun := time.Now()
	for s, spec := range map[*sandbox]netpolicy.Spec{one: byName("a.example.com"), two: byName("b.example.com", "a.example.com:8443")} {
		s.police(spec, func(n transit.Node, link string, p netpolicy.Policy) (nft.Grant, error) {
			return n.Change(link, p, 0, lease)
		})
	}
	var got table
	got.row("leased", one.ask("169.254.1.1:53", "a.example.com.", dns.TypeA))
	live, said := one.tls("a.example.com", serverAddr, 443)
	got.row("leased, connected", said)
	got.row("leased to the sibling", two.ask("169.254.1.1:53", "a.example.com.", dns.TypeA))
	plain, said := two.tls("a.example.com", serverAddr, 8443)
	got.row("leased to the sibling, connected", said)
	got.row("not leased", one.ask("169.254.1.1:53", "b.example.com.", dns.TypeA))
	got.row("after it, the connection", next(live))
	if took := time.Since(begun); took < lease/2 || took > lease+4*time.Second {
		w.t.Errorf("a connection under a lease of %v ended after %v", lease, took)
	}
	_, err := io.WriteString(plain, "still there")
	w.must(err)
	got.row("after it, the sibling's", next(plain))
	_, again := one.tls("a.example.com", serverAddr, 443)
	got.row("after it, connected again", again)
	got.row("after it, the name", one.ask("169.254.1.1:53", "a.example.com.", dns.TypeA))
	got.row("after it, the name before", one.ask("169.254.1.1:53", "b.example.com.", dns.TypeA))
	got.compare(w.t, `
leased                             203.0.113.2
leased, connected                  hello from a.example.com
leased to the sibling              203.0.113.2
leased to the sibling, connected   hello from a.example.com
not leased                         NXDOMAIN
after it, the connection           reset
after it, the sibling's            reset
after it, connected again          refused
after it, the name                 NXDOMAIN
after it, the name before          203.0.113.130
`)
}

// namesWithoutBrigd: what goes through brigd is refused while it is away, and goes on
// with its next life without a new question.
func namesWithoutBrigd(w *world, upstream string, stop func(), one *sandbox) {
	stop()
	var got table
	got.row("without brigd: pinned", try(one.ns, otherAddr, 443))
	got.row("without brigd: not pinned", try(one.ns, serverAddr, 443))
	got.row("without brigd: the resolver", one.ask("169.254.1.1:53", "b.example.com.", dns.TypeA))
	w.serveNames(upstream)
	w.awaitResolver(one)
	_, said := one.tls("b.example.com", otherAddr, 443)
	got.row("the next brigd: pinned", said)
	got.compare(w.t, `
without brigd: pinned              refused
without brigd: not pinned          refused
without brigd: the resolver        refused
the next brigd: pinned             hello from b.example.com
`)
}

// awaitResolver waits until brigd listens in the transit namespace.
func (w *world) awaitResolver(s *sandbox) {
	w.t.Helper()
	gateway := netip.MustParseAddr(nft.Gateway)
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if try(s.ns, gateway, 53) == "open" && s.w.listens(nft.SNIPort) {
			return
		}
	}
	w.t.Fatal("nobody listens in the transit namespace")
}

// listens tells whether somebody does at the gateway's port, asked from inside.
func (w *world) listens(port uint16) bool {
	return try(w.cfg.TransitName(), netip.MustParseAddr(nft.Gateway), port) == "open"
}

// say sends a datagram with a marker.
func (s *sandbox) say(marker string, to netip.Addr, port uint16) {
	s.w.t.Helper()
	s.w.must(s.do(func() error {
		conn, err := net.Dial("udp4", netip.AddrPortFrom(to, port).String())
		if err != nil {
			return err
		}
		defer conn.Close()
		_, err = io.WriteString(conn, marker)
		return err
	}))
}
