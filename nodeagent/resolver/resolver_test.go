package resolver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"

	"brig/internal/netpolicy"
)

// upstream is a resolver that knows one name; it remembers what it was asked.
type upstream struct {
	mu    sync.Mutex // guards asked
	asked []*dns.Msg
}

func (u *upstream) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	u.mu.Lock()
	u.asked = append(u.asked, q.Copy())
	u.mu.Unlock()
	m := new(dns.Msg).SetReply(q)
	if _, udp := w.RemoteAddr().(*net.UDPAddr); udp && strings.HasPrefix(q.Question[0].Name, "big.") {
		m.Truncated = true
	} else if strings.HasSuffix(q.Question[0].Name, "example.") {
		rr, _ := dns.NewRR(q.Question[0].Name + " 60 IN A 192.0.2.1")
		m.Answer = append(m.Answer, rr)
	} else {
		m.Rcode = dns.RcodeNameError
	}
	_ = w.WriteMsg(m)
}

// here is a Place on loopback.
type here struct{ address string }

func (here) Identity() (string, error) { return "here", nil }
func (h here) ListenPacket(ctx context.Context) (net.PacketConn, error) {
	var c net.ListenConfig
	return c.ListenPacket(ctx, "udp", h.address)
}
func (h here) Listen(ctx context.Context) (net.Listener, error) {
	var c net.ListenConfig
	return c.Listen(ctx, "tcp", h.address)
}

// both opens the same port for UDP and TCP.
func both(t *testing.T) (net.PacketConn, net.Listener) {
	t.Helper()
	for range 50 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		p, err := net.ListenPacket("udp", l.Addr().String())
		if err == nil {
			return p, l
		}
		l.Close()
	}
	t.Fatal("no port is free for both UDP and TCP")
	return nil, nil
}

func startUpstream(t *testing.T) (*upstream, string) {
	t.Helper()
	u := &upstream{}
	p, l := both(t)
	for _, s := range []*dns.Server{{PacketConn: p, Handler: u}, {Listener: l, Handler: u}} {
		go func() { _ = s.ActivateAndServe() }()
	}
	t.Cleanup(func() { p.Close(); l.Close() })
	return u, l.Addr().String()
}

func start(t *testing.T, upstreams ...string) string {
	t.Helper()
	return serve(t, New(openTo(upstreams...)))
}

// openTo is the resolver of a node where everybody may ask everything.
func openTo(upstreams ...string) Config {
	return Config{
		Upstreams: func() ([]string, error) { return upstreams, nil },
		Policies:  everybody{netpolicy.Open()},
		Node:      func(netip.Addr) bool { return false },
		Log:       slog.New(slog.DiscardHandler),
	}
}

// everybody has the same policy.
type everybody struct{ policy netpolicy.Policy }

func (e everybody) Of(netip.Addr) (Sandbox, bool) {
	return Sandbox{Link: "brg000000000001", Policy: e.policy, Generation: 1}, true
}

func serve(t *testing.T, r *Resolver) string {
	t.Helper()
	p, l := both(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- r.Serve(ctx, p, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("serve: %v; want the context's end", err)
		}
	})
	return l.Addr().String()
}

func question(name string, qtype, class uint16) *dns.Msg {
	m := new(dns.Msg).SetQuestion(name, qtype)
	m.Question[0].Qclass = class
	return m
}

func exchange(t *testing.T, network, address string, q *dns.Msg) *dns.Msg {
	t.Helper()
	c := &dns.Client{Net: network, Timeout: 5 * time.Second}
	m, _, err := c.Exchange(q, address)
	if err != nil {
		t.Fatalf("%s over %s: %v", q.Question[0].Name, network, err)
	}
	return m
}

func TestAnswers(t *testing.T) {
	_, up := startUpstream(t)
	address := start(t, up)
	for _, tc := range []struct {
		q    *dns.Msg
		want string // the code and the answers
	}{
		{question("host.example.", dns.TypeA, dns.ClassINET), "NOERROR host.example.\t60\tIN\tA\t192.0.2.1"},
		{question("host.invalid.", dns.TypeA, dns.ClassINET), "NXDOMAIN"},
		{question("resolver.brig.internal.", dns.TypeA, dns.ClassINET), "NOERROR resolver.brig.internal.\t60\tIN\tA\t169.254.1.1"},
		{question("Resolver.Brig.Internal.", dns.TypeA, dns.ClassINET), "NOERROR Resolver.Brig.Internal.\t60\tIN\tA\t169.254.1.1"},
		{question("resolver.brig.internal.", dns.TypeAAAA, dns.ClassINET), "NOERROR"},
		{question("other.brig.internal.", dns.TypeA, dns.ClassINET), "NXDOMAIN"},
		{question("example.", dns.TypeAXFR, dns.ClassINET), "REFUSED"},
		{question("example.", dns.TypeIXFR, dns.ClassINET), "REFUSED"},
		{question("example.", dns.TypeANY, dns.ClassINET), "REFUSED"},
		{question("version.bind.", dns.TypeTXT, dns.ClassCHAOS), "REFUSED"},
		{&dns.Msg{MsgHdr: dns.MsgHdr{Opcode: dns.OpcodeUpdate}, Question: []dns.Question{{Name: "example.", Qtype: dns.TypeSOA, Qclass: dns.ClassINET}}}, "NOTIMP"},
	} {
		for _, network := range []string{"udp", "tcp"} {
			m := exchange(t, network, address, tc.q)
			got := []string{dns.RcodeToString[m.Rcode]}
			for _, rr := range m.Answer {
				got = append(got, rr.String())
			}
			if diff := cmp.Diff(tc.want, strings.Join(got, " ")); diff != "" {
				t.Errorf("%s over %s (-want +got):\n%s", tc.q.Question[0].String(), network, diff)
			}
		}
	}
}

func TestTruncatedIsAskedAgainOverTCP(t *testing.T) {
	_, up := startUpstream(t)
	address := start(t, up)
	q := question("big.example.", dns.TypeA, dns.ClassINET)
	if m := exchange(t, "udp", address, q); !m.Truncated {
		t.Error("over UDP the answer is not marked as truncated")
	}
	if m := exchange(t, "tcp", address, q); m.Truncated || len(m.Answer) != 1 {
		t.Errorf("over TCP: %v", m)
	}
}

// What leaves the node is a question of the resolver's own making.
func TestNothingOfTheSandboxIsPassedOn(t *testing.T) {
	u, up := startUpstream(t)
	address := start(t, up)
	q := question("host.example.", dns.TypeA, dns.ClassINET)
	q.Id = 4711
	q.SetEdns0(4096, true)
	q.IsEdns0().Option = append(q.IsEdns0().Option, &dns.EDNS0_LOCAL{Code: dns.EDNS0LOCALSTART, Data: []byte("secret")})
	q.Extra = append(q.Extra, &dns.TXT{Hdr: dns.RR_Header{Name: "x.", Rrtype: dns.TypeTXT, Class: dns.ClassINET}, Txt: []string{"secret"}})
	if m := exchange(t, "udp", address, q); m.Id != 4711 || len(m.Answer) != 1 {
		t.Fatalf("answer %v", m)
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if asked := u.asked[0]; strings.Contains(asked.String(), "secret") || len(asked.Extra) != 1 {
		t.Errorf("upstream was asked:\n%v", asked)
	}
}

func TestNextUpstream(t *testing.T) {
	dead, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead.Close()
	_, up := startUpstream(t)
	address := start(t, dead.LocalAddr().String(), up)
	if m := exchange(t, "udp", address, question("host.example.", dns.TypeA, dns.ClassINET)); len(m.Answer) != 1 {
		t.Errorf("answer %v", m)
	}
}

// An answer to another question is none, whatever id it has.
func TestAnotherAnswer(t *testing.T) {
	p, l := both(t)
	forger := dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg).SetReply(q)
		m.Question[0].Name = "other.example."
		rr, _ := dns.NewRR("host.example. 60 IN A 192.0.2.66")
		m.Answer = append(m.Answer, rr)
		_ = w.WriteMsg(m)
	})
	for _, s := range []*dns.Server{{PacketConn: p, Handler: forger}, {Listener: l, Handler: forger}} {
		go func() { _ = s.ActivateAndServe() }()
	}
	t.Cleanup(func() { p.Close(); l.Close() })
	address := start(t, p.LocalAddr().String())
	for _, network := range []string{"udp", "tcp"} {
		if m := exchange(t, network, address, question("host.example.", dns.TypeA, dns.ClassINET)); m.Rcode != dns.RcodeServerFailure || len(m.Answer) > 0 {
			t.Errorf("over %s: %v", network, m)
		}
	}
}

// However many questions come at once, few are open, and another sandbox is answered.
func TestFloodOfQuestions(t *testing.T) {
	silent, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	var forwarded atomic.Int64
	go func() {
		for buf := make([]byte, 1500); ; forwarded.Add(1) {
			if _, _, err := silent.ReadFrom(buf); err != nil {
				return
			}
		}
	}()
	address := start(t, silent.LocalAddr().String())
	var flood []net.Conn
	for range 8 {
		conn, err := net.Dial("udp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		flood = append(flood, conn)
	}
	for i := range 2000 {
		data, err := question(fmt.Sprintf("host%d.example.", i), dns.TypeA, dns.ClassINET).Pack()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := flood[i%len(flood)].Write(data); err != nil {
			t.Fatal(err)
		}
	}
	c := &dns.Client{Dialer: &net.Dialer{LocalAddr: &net.UDPAddr{IP: net.IPv4(127, 0, 0, 2)}}}
	var answer *dns.Msg
	for range 3 { // as every client does: without root the kernel drops what comes in bursts
		if answer, _, err = c.Exchange(question(Name, dns.TypeA, dns.ClassINET), address); err == nil {
			break
		}
	}
	if err != nil || len(answer.Answer) != 1 {
		t.Errorf("another sandbox: %v, %v", answer, err)
	}
	// Those that are open are asked of the upstream, once more each after a while.
	if n := forwarded.Load(); n == 0 || n > 3*maxOfSource {
		t.Errorf("%d of 2000 questions were passed on at once; want some, at most %d", n, 3*maxOfSource)
	}
}

func TestNoUpstream(t *testing.T) {
	address := start(t)
	if m := exchange(t, "udp", address, question("host.example.", dns.TypeA, dns.ClassINET)); m.Rcode != dns.RcodeServerFailure {
		t.Errorf("code %s; want SERVFAIL", dns.RcodeToString[m.Rcode])
	}
}

func TestGate(t *testing.T) {
	a, b, c := netip.MustParseAddr("10.88.0.1"), netip.MustParseAddr("10.88.0.2"), netip.MustParseAddr("10.88.0.3")
	g := newGate(3, 2)
	for i, step := range []struct {
		source netip.Addr
		want   bool
	}{{a, true}, {a, true}, {a, false}, {b, true}, {c, false}} {
		if got := g.enter(step.source); got != step.want {
			t.Errorf("step %d: %v enters: %v; want %v", i, step.source, got, step.want)
		}
	}
	for _, source := range []netip.Addr{a, a, b} {
		g.leave(source)
	}
	if g.all != 0 || len(g.one) != 0 {
		t.Errorf("after all have left: %d, %v", g.all, g.one)
	}
}

func TestUpstreams(t *testing.T) {
	path := filepath.Join(t.TempDir(), "resolv.conf")
	read := func(configured []string) []string {
		t.Helper()
		servers, err := Upstreams(configured, path)()
		if err != nil {
			t.Fatal(err)
		}
		return servers
	}
	if err := os.WriteFile(path, []byte("nameserver 192.0.2.53\nnameserver 169.254.1.1\nnameserver 2001:db8::53\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"192.0.2.53:53", "[2001:db8::53]:53"}, read(nil)); diff != "" {
		t.Errorf("of resolv.conf (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"192.0.2.1:53", "192.0.2.2:5353", "[::1]:53"}, read([]string{"192.0.2.1", "192.0.2.2:5353", "::1"})); diff != "" {
		t.Errorf("configured (-want +got):\n%s", diff)
	}
}

func TestKeep(t *testing.T) {
	_, up := startUpstream(t)
	r := New(openTo(up))
	p, l := both(t)
	address := l.Addr().String()
	p.Close()
	l.Close()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); r.Keep(ctx, here{address}) }()
	c := &dns.Client{Net: "tcp", Timeout: time.Second}
	for {
		if _, _, err := c.Exchange(question("host.example.", dns.TypeA, dns.ClassINET), address); err == nil {
			break
		}
		if t.Context().Err() != nil {
			t.Fatal("it never served")
		}
	}
	cancel()
	<-done
}

// Connections that ask nothing are bounded too, and give their place back.
func TestConnectionsAreBounded(t *testing.T) {
	address := start(t)
	var open []net.Conn
	for range maxConnsOfOne {
		c, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		open = append(open, c)
	}
	if err := endOf(address); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("one connection too many: %v; want it ended", err)
	}
	for _, c := range open {
		c.Close()
	}
	q := question(Name, dns.TypeA, dns.ClassINET)
	client := &dns.Client{Net: "tcp", Timeout: time.Second}
	for until := time.Now().Add(5 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		_, _, err := client.Exchange(q, address)
		if err == nil {
			return
		}
		if time.Now().After(until) {
			t.Fatalf("after the others were closed: %v", err)
		}
	}
}

// endOf is how a connection ends that says nothing.
func endOf(address string) error {
	c, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetReadDeadline(time.Now().Add(2 * time.Second)); err != nil {
		return err
	}
	_, err = c.Read(make([]byte, 1))
	return err
}
