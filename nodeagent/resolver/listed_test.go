package resolver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"

	"brig/internal/netpolicy"
)

// zone is an upstream resolver that answers with whole messages: the records of the
// section after the name and type asked for. It may change at any time.
type zone struct {
	mu      sync.Mutex // guards what follows
	records map[string][]string
	asked   []string
}

func (z *zone) set(name, qtype string, records ...string) {
	z.mu.Lock()
	defer z.mu.Unlock()
	if z.records == nil {
		z.records = map[string][]string{}
	}
	z.records[name+" "+qtype] = records
}

// questions since the last call.
func (z *zone) questions() []string {
	z.mu.Lock()
	defer z.mu.Unlock()
	asked := z.asked
	z.asked = nil
	return asked
}

func (z *zone) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	z.mu.Lock()
	question := q.Question[0]
	key := question.Name + " " + dns.TypeToString[question.Qtype]
	z.asked = append(z.asked, key)
	records, ok := z.records[strings.ToLower(key[:len(question.Name)])+key[len(question.Name):]]
	z.mu.Unlock()
	m := new(dns.Msg).SetReply(q)
	if !ok {
		m.Rcode = dns.RcodeNameError
	}
	for _, text := range records {
		section := &m.Answer
		if extra, ok := strings.CutPrefix(text, "extra: "); ok {
			section, text = &m.Extra, extra
		}
		if text == "servfail" {
			m.Rcode = dns.RcodeServerFailure
			continue
		}
		rr, err := dns.NewRR(text)
		if err != nil {
			panic(err)
		}
		*section = append(*section, rr)
	}
	if _, udp := w.RemoteAddr().(*net.UDPAddr); udp {
		m.Truncate(1232)
	}
	_ = w.WriteMsg(m)
}

func startZone(t *testing.T) (*zone, string) {
	t.Helper()
	z := &zone{}
	p, l := both(t)
	for _, s := range []*dns.Server{{PacketConn: p, Handler: z}, {Listener: l, Handler: z}} {
		go func() { _ = s.ActivateAndServe() }()
	}
	t.Cleanup(func() { p.Close(); l.Close() })
	return z, l.Addr().String()
}

// kernel remembers what is pinned. It refuses what is not of the generation in force.
type kernel struct {
	mu         sync.Mutex // guards what follows
	pinned     []string
	generation uint64
	broken     bool
}

func (k *kernel) Pin(_ context.Context, link string, generation uint64, pins []Pin) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.broken || generation != k.generation {
		return errors.New("not in force")
	}
	for _, p := range pins {
		k.pinned = append(k.pinned, fmt.Sprintf("%s %s:%d %s", link, p.Addr, p.Port, p.TTL))
	}
	return nil
}

func (k *kernel) set(generation uint64, broken bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.generation, k.broken = generation, broken
}

// pins since the last call.
func (k *kernel) pins() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	pinned := k.pinned
	k.pinned = nil
	return pinned
}

// denials are remembered.
type denials struct {
	mu   sync.Mutex // guards list
	list []string
}

func (d *denials) Denied(link, reason, name string, dst netip.AddrPort) {
	d.mu.Lock()
	defer d.mu.Unlock()
	text := link + " " + reason + " " + name
	if dst.Addr().IsValid() {
		text += " " + dst.Addr().String()
	}
	d.list = append(d.list, text)
}

func (d *denials) all() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	list := d.list
	d.list = nil
	return list
}

// tenants are sandboxes by source address; they may change at any time.
type tenants struct {
	mu sync.Mutex // guards of
	of map[netip.Addr]Sandbox
}

func (p *tenants) Of(source netip.Addr) (Sandbox, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s, ok := p.of[source]
	return s, ok
}

func (p *tenants) set(source string, s Sandbox) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.of[netip.MustParseAddr(source)] = s
}

// node is a resolver with all that it needs.
type node struct {
	*Resolver
	zone    *zone
	kernel  *kernel
	denials *denials
	tenants *tenants
	address string
}

// nodeAddress is the node's own, public.
var nodeAddress = netip.MustParseAddr("198.51.100.77")

func newNode(t *testing.T) *node {
	t.Helper()
	n := &node{kernel: &kernel{generation: 1}, denials: &denials{}, tenants: &tenants{of: map[netip.Addr]Sandbox{}}}
	var up string
	n.zone, up = startZone(t)
	cfg := openTo(up)
	cfg.Policies, cfg.Pins, cfg.Denials = n.tenants, n.kernel, n.denials
	cfg.Node = func(addr netip.Addr) bool { return addr == nodeAddress }
	n.Resolver = New(cfg)
	n.address = serve(t, n.Resolver)
	return n
}

// flush forgets what the kernel was told.
func (n *node) flush() {
	n.accounts.mu.Lock()
	defer n.accounts.mu.Unlock()
	for _, one := range n.accounts.of {
		n.accounts.told -= len(one.pinned)
		one.count -= len(one.pinned)
		one.pinned = nil
	}
}

func compile(t *testing.T, s netpolicy.Spec) netpolicy.Policy {
	t.Helper()
	p, err := netpolicy.Compile(s, netpolicy.Ceiling{AllowPrivate: []netip.Prefix{netip.MustParsePrefix("10.20.0.0/16")}})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func names(entries ...string) netpolicy.Spec { return netpolicy.Spec{DomainAllowlist: &entries} }

func ranges(dns string, entries ...string) netpolicy.Spec {
	return netpolicy.Spec{CIDRAllowlist: &entries, DNS: dns}
}

// ask is one question from a source; the answer is its code and its records.
func (n *node) ask(t *testing.T, network, source, name, qtype string) string {
	t.Helper()
	m := n.exchange(t, network, source, question(name, dns.StringToType[qtype], dns.ClassINET))
	got := []string{dns.RcodeToString[m.Rcode]}
	for _, rr := range slices.Concat(m.Answer, m.Ns, m.Extra) {
		got = append(got, strings.ReplaceAll(rr.String(), "\t", " "))
	}
	return strings.Join(got, "; ")
}

func (n *node) exchange(t *testing.T, network, source string, q *dns.Msg) *dns.Msg {
	t.Helper()
	var local net.Addr = &net.UDPAddr{IP: net.ParseIP(source)}
	if network == "tcp" {
		local = &net.TCPAddr{IP: net.ParseIP(source)}
	}
	c := &dns.Client{Net: network, Timeout: 5 * time.Second, Dialer: &net.Dialer{LocalAddr: local, Timeout: 5 * time.Second}}
	m, _, err := c.Exchange(q, n.address)
	if err != nil {
		t.Fatalf("%s over %s: %v", q.Question[0].Name, network, err)
	}
	return m
}

// TestListed is the table of what a sandbox with a list of names is told, what reaches
// the kernel before, and what leaves the node.
func TestListed(t *testing.T) {
	n := newNode(t)
	n.zone.set("one.example.com.", "A", "one.example.com. 300 IN A 203.0.113.1", "one.example.com. 60 IN A 203.0.113.2")
	n.zone.set("one.example.com.", "AAAA", "one.example.com. 300 IN AAAA 2600::1")
	n.zone.set("alias.example.com.", "A", "alias.example.com. 300 IN CNAME a.cdn.example.net.", "a.cdn.example.net. 30 IN CNAME b.cdn.example.net.",
		"b.cdn.example.net. 300 IN A 203.0.113.3", "extra: other.example.net. 300 IN A 203.0.113.99")
	n.zone.set("loop.example.com.", "A", "loop.example.com. 300 IN CNAME x.example.net.", "x.example.net. 300 IN CNAME loop.example.com.")
	n.zone.set("stray.example.com.", "A", "stray.example.com. 300 IN A 203.0.113.4", "other.example.org. 300 IN A 203.0.113.5", "stray.example.com. 300 IN TXT \"x\"")
	n.zone.set("short.example.com.", "A", "short.example.com. 0 IN A 203.0.113.6")
	n.zone.set("lasting.example.com.", "A", "lasting.example.com. 999999 IN A 203.0.113.7")
	n.zone.set("private.example.com.", "A", "private.example.com. 300 IN A 10.0.0.1")
	n.zone.set("half.example.com.", "A", "half.example.com. 300 IN A 169.254.169.254", "half.example.com. 300 IN A 203.0.113.8")
	n.zone.set("node.example.com.", "A", "node.example.com. 300 IN A 198.51.100.77")
	n.zone.set("wrapped.example.com.", "AAAA", "wrapped.example.com. 300 IN AAAA ::ffff:203.0.113.9")
	n.zone.set("nat64.example.com.", "AAAA", "nat64.example.com. 300 IN AAAA 64:ff9b::a9fe:a9fe")
	n.zone.set("broken.example.com.", "A", "servfail")
	n.zone.set("none.example.com.", "A")
	n.zone.set("port.example.org.", "A", "port.example.org. 300 IN A 203.0.113.10")
	n.zone.set("a.b.wild.example.net.", "A", "a.b.wild.example.net. 300 IN A 203.0.113.11")
	n.zone.set("ranged.example.com.", "A", "ranged.example.com. 300 IN A 192.0.2.1", "ranged.example.com. 300 IN A 10.20.0.1")
	n.zone.set("big.example.com.", "A", many("big.example.com. 300 IN A 203.0.113.%d", 100)...)
	spec := names("*.example.com", "port.example.org", "port.example.org:8443", "*.wild.example.net:22")
	spec.CIDRAllowlist = &[]string{"192.0.2.0/24", "10.20.0.0/16"}
	n.tenants.set("127.0.0.1", Sandbox{Link: "brg1", Policy: compile(t, spec), Generation: 1})
	n.tenants.set("127.0.0.6", Sandbox{Link: "brg6", Policy: compile(t, spec), Generation: 1, IPv6: true})
	n.tenants.set("127.0.0.7", Sandbox{Link: "brg7", Policy: compile(t, spec), Generation: 1, Lasts: 20 * time.Second})
	for _, tc := range []struct {
		source, name, qtype string
		want                string
		pins                []string
		denied              []string
		asked               []string
	}{
		{name: "one.example.com.", qtype: "A", want: "NOERROR; one.example.com. 60 IN A 203.0.113.1; one.example.com. 60 IN A 203.0.113.2",
			pins: []string{"brg1 203.0.113.1:443 2m0s", "brg1 203.0.113.2:443 2m0s"}, asked: []string{"one.example.com. A"}},
		{name: "oNe.ExAmPle.com.", qtype: "A", want: "NOERROR; oNe.ExAmPle.com. 60 IN A 203.0.113.1; oNe.ExAmPle.com. 60 IN A 203.0.113.2",
			pins: []string{"brg1 203.0.113.1:443 2m0s", "brg1 203.0.113.2:443 2m0s"}, asked: []string{"one.example.com. A"}},
		{name: "one.example.com.", qtype: "AAAA", want: "NOERROR"},
		{source: "127.0.0.6", name: "one.example.com.", qtype: "AAAA", want: "NOERROR; one.example.com. 300 IN AAAA 2600::1",
			pins: []string{"brg6 2600::1:443 6m0s"}, asked: []string{"one.example.com. AAAA"}},
		{source: "127.0.0.7", name: "one.example.com.", qtype: "A", want: "NOERROR; one.example.com. 60 IN A 203.0.113.1; one.example.com. 60 IN A 203.0.113.2",
			pins: []string{"brg7 203.0.113.1:443 20s", "brg7 203.0.113.2:443 20s"}, asked: []string{"one.example.com. A"}},
		{name: "alias.example.com.", qtype: "A", want: "NOERROR; alias.example.com. 30 IN A 203.0.113.3", pins: []string{"brg1 203.0.113.3:443 1m30s"}, asked: []string{"alias.example.com. A"}},
		{name: "b.cdn.example.net.", qtype: "A", want: "NXDOMAIN", denied: []string{"brg1 dns b.cdn.example.net"}},
		{name: "loop.example.com.", qtype: "A", want: "NOERROR", asked: []string{"loop.example.com. A"}},
		{name: "stray.example.com.", qtype: "A", want: "NOERROR; stray.example.com. 300 IN A 203.0.113.4", pins: []string{"brg1 203.0.113.4:443 6m0s"}, asked: []string{"stray.example.com. A"}},
		{name: "short.example.com.", qtype: "A", want: "NOERROR; short.example.com. 5 IN A 203.0.113.6", pins: []string{"brg1 203.0.113.6:443 1m5s"}, asked: []string{"short.example.com. A"}},
		{name: "lasting.example.com.", qtype: "A", want: "NOERROR; lasting.example.com. 3600 IN A 203.0.113.7", pins: []string{"brg1 203.0.113.7:443 1h1m0s"}, asked: []string{"lasting.example.com. A"}},
		{name: "private.example.com.", qtype: "A", want: "NXDOMAIN", denied: []string{"brg1 dns private.example.com 10.0.0.1"}, asked: []string{"private.example.com. A"}},
		{name: "half.example.com.", qtype: "A", want: "NOERROR; half.example.com. 300 IN A 203.0.113.8", pins: []string{"brg1 203.0.113.8:443 6m0s"}, asked: []string{"half.example.com. A"}},
		{name: "node.example.com.", qtype: "A", want: "NXDOMAIN", denied: []string{"brg1 dns node.example.com 198.51.100.77"}, asked: []string{"node.example.com. A"}},
		{source: "127.0.0.6", name: "wrapped.example.com.", qtype: "AAAA", want: "NXDOMAIN", denied: []string{"brg6 dns wrapped.example.com ::ffff:203.0.113.9"}, asked: []string{"wrapped.example.com. AAAA"}},
		{source: "127.0.0.6", name: "nat64.example.com.", qtype: "AAAA", want: "NXDOMAIN", denied: []string{"brg6 dns nat64.example.com 64:ff9b::a9fe:a9fe"}, asked: []string{"nat64.example.com. AAAA"}},
		{name: "broken.example.com.", qtype: "A", want: "SERVFAIL", asked: []string{"broken.example.com. A"}},
		{name: "none.example.com.", qtype: "A", want: "NOERROR", asked: []string{"none.example.com. A"}},
		{name: "nowhere.example.com.", qtype: "A", want: "NXDOMAIN", asked: []string{"nowhere.example.com. A"}},
		{name: "port.example.org.", qtype: "A", want: "NOERROR; port.example.org. 300 IN A 203.0.113.10", pins: []string{"brg1 203.0.113.10:443 6m0s", "brg1 203.0.113.10:8443 6m0s"}, asked: []string{"port.example.org. A"}},
		{name: "a.b.wild.example.net.", qtype: "A", want: "NOERROR; a.b.wild.example.net. 300 IN A 203.0.113.11", pins: []string{"brg1 203.0.113.11:22 6m0s"}, asked: []string{"a.b.wild.example.net. A"}},
		{name: "ranged.example.com.", qtype: "A", want: "NOERROR; ranged.example.com. 300 IN A 192.0.2.1; ranged.example.com. 300 IN A 10.20.0.1", asked: []string{"ranged.example.com. A"}},
		{name: "example.com.", qtype: "A", want: "NXDOMAIN", denied: []string{"brg1 dns example.com"}},
		{name: "evilexample.com.", qtype: "A", want: "NXDOMAIN", denied: []string{"brg1 dns evilexample.com"}},
		{name: "one.example.com.evil.net.", qtype: "A", want: "NXDOMAIN", denied: []string{"brg1 dns one.example.com.evil.net"}},
		{name: `evil\.example.com.`, qtype: "A", want: "NXDOMAIN", denied: []string{`brg1 dns evil\.example.com.`}},
		{name: `evil\000.example.com.`, qtype: "A", want: "NXDOMAIN", denied: []string{`brg1 dns evil\000.example.com.`}},
		{name: "*.example.com.", qtype: "A", want: "NXDOMAIN", denied: []string{"brg1 dns *.example.com."}},
		{name: ".", qtype: "A", want: "NXDOMAIN", denied: []string{"brg1 dns ."}},
		{name: "one.example.com.", qtype: "HTTPS", want: "NOERROR"},
		{name: "one.example.com.", qtype: "SVCB", want: "NOERROR"},
		{name: "one.example.com.", qtype: "TXT", want: "NOERROR", denied: []string{"brg1 dns one.example.com"}},
		{name: "one.example.com.", qtype: "MX", want: "NOERROR", denied: []string{"brg1 dns one.example.com"}},
		{name: "one.example.com.", qtype: "SRV", want: "NOERROR", denied: []string{"brg1 dns one.example.com"}},
		{name: "one.example.com.", qtype: "NULL", want: "NOERROR", denied: []string{"brg1 dns one.example.com"}},
		{name: "one.example.com.", qtype: "CNAME", want: "NOERROR", denied: []string{"brg1 dns one.example.com"}},
		{name: "one.example.com.", qtype: "ANY", want: "REFUSED"},
		{name: "evil.net.", qtype: "HTTPS", want: "NXDOMAIN", denied: []string{"brg1 dns evil.net"}},
		{name: "resolver.brig.internal.", qtype: "A", want: "NOERROR; resolver.brig.internal. 60 IN A 169.254.1.1"},
	} {
		for _, network := range []string{"udp", "tcp"} {
			if tc.source == "" {
				tc.source = "127.0.0.1"
			}
			where := tc.name + " " + tc.qtype + " over " + network
			n.flush()
			if diff := cmp.Diff(tc.want, n.ask(t, network, tc.source, tc.name, tc.qtype)); diff != "" {
				t.Errorf("%s is answered (-want +got):\n%s", where, diff)
			}
			if diff := cmp.Diff(tc.pins, n.kernel.pins()); diff != "" {
				t.Errorf("%s pins (-want +got):\n%s", where, diff)
			}
			if diff := cmp.Diff(tc.denied, n.denials.all()); diff != "" {
				t.Errorf("%s is denied (-want +got):\n%s", where, diff)
			}
			if diff := cmp.Diff(tc.asked, n.zone.questions()); diff != "" {
				t.Errorf("%s asks upstream (-want +got):\n%s", where, diff)
			}
		}
	}
	if m := n.exchange(t, "udp", "127.0.0.1", question("big.example.com.", dns.TypeA, dns.ClassINET)); !m.Truncated || len(m.Answer) > 0 || n.kernel.pins() != nil {
		t.Errorf("a truncated answer: %v", m)
	}
	if m := n.exchange(t, "tcp", "127.0.0.1", question("big.example.com.", dns.TypeA, dns.ClassINET)); len(m.Answer) != maxAddresses || len(n.kernel.pins()) != maxAddresses {
		t.Errorf("a name with 100 addresses has %d", len(m.Answer))
	}
}

func many(format string, count int) []string {
	var list []string
	for i := range count {
		list = append(list, fmt.Sprintf(format, i+1))
	}
	return list
}

// A sandbox is answered under its own policy, and one without a policy is refused.
func TestWhoAsks(t *testing.T) {
	n := newNode(t)
	for _, name := range []string{"a.example.com.", "b.example.com."} {
		n.zone.set(name, "A", name+" 300 IN A 203.0.113.1")
		n.zone.set(name, "TXT", name+` 300 IN TXT "x"`)
	}
	n.tenants.set("127.0.0.1", Sandbox{Link: "brg1", Policy: compile(t, names("a.example.com")), Generation: 1})
	n.tenants.set("127.0.0.2", Sandbox{Link: "brg2", Policy: compile(t, names("b.example.com")), Generation: 1})
	n.tenants.set("127.0.0.3", Sandbox{Link: "brg3", Policy: netpolicy.Open(), Generation: 1})
	n.tenants.set("127.0.0.4", Sandbox{Link: "brg4", Policy: compile(t, ranges("")), Generation: 1})
	n.tenants.set("127.0.0.5", Sandbox{Link: "brg5", Policy: compile(t, ranges("resolver", "203.0.113.0/24")), Generation: 1})
	n.tenants.set("127.0.0.6", Sandbox{Link: "brg6"})
	var got strings.Builder
	for source := 1; source <= 7; source++ {
		for _, q := range []string{"a.example.com. A", "b.example.com. A", "a.example.com. TXT"} {
			name, qtype, _ := strings.Cut(q, " ")
			answer := n.ask(t, "udp", fmt.Sprintf("127.0.0.%d", source), name, qtype)
			code, _, found := strings.Cut(answer, ";")
			fmt.Fprintf(&got, "%d %s: %s %t\n", source, q, code, found)
		}
	}
	want := `1 a.example.com. A: NOERROR true
1 b.example.com. A: NXDOMAIN false
1 a.example.com. TXT: NOERROR false
2 a.example.com. A: NXDOMAIN false
2 b.example.com. A: NOERROR true
2 a.example.com. TXT: NXDOMAIN false
3 a.example.com. A: NOERROR true
3 b.example.com. A: NOERROR true
3 a.example.com. TXT: NOERROR true
4 a.example.com. A: REFUSED false
4 b.example.com. A: REFUSED false
4 a.example.com. TXT: REFUSED false
5 a.example.com. A: NOERROR true
5 b.example.com. A: NOERROR true
5 a.example.com. TXT: NOERROR true
6 a.example.com. A: REFUSED false
6 b.example.com. A: REFUSED false
6 a.example.com. TXT: REFUSED false
7 a.example.com. A: REFUSED false
7 b.example.com. A: REFUSED false
7 a.example.com. TXT: REFUSED false
`
	if diff := cmp.Diff(want, got.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// Where every name may be asked for, answers are cleaned of private addresses all the
// same.
func TestRebindingOfAnyName(t *testing.T) {
	n := newNode(t)
	n.zone.set("mixed.example.", "A", "mixed.example. 300 IN A 10.0.0.1", "mixed.example. 300 IN A 203.0.113.1", "extra: glue.example. 300 IN A 192.168.0.1")
	n.zone.set("private.example.", "A", "private.example. 300 IN CNAME x.example.", "x.example. 300 IN A 10.20.0.1")
	n.zone.set("node.example.", "A", "node.example. 300 IN A 198.51.100.77")
	n.zone.set("six.example.", "AAAA", "six.example. 300 IN AAAA fd00:ec2::254")
	n.zone.set("hint.example.", "HTTPS", `hint.example. 300 IN HTTPS 1 . alpn="h2" ipv4hint="10.0.0.1"`)
	n.zone.set("svc.example.", "HTTPS", `svc.example. 300 IN HTTPS 1 . alpn="h2" ipv4hint="203.0.113.1"`)
	n.tenants.set("127.0.0.1", Sandbox{Link: "brg1", Policy: netpolicy.Open(), Generation: 1})
	n.tenants.set("127.0.0.2", Sandbox{Link: "brg2", Policy: compile(t, ranges("resolver", "10.20.0.0/16")), Generation: 1})
	for _, tc := range []struct{ source, name, qtype, want, denied string }{
		{"127.0.0.1", "mixed.example.", "A", "NOERROR; mixed.example. 300 IN A 203.0.113.1", ""},
		{"127.0.0.1", "private.example.", "A", "NXDOMAIN", "brg1 dns private.example 10.20.0.1"},
		{"127.0.0.2", "private.example.", "A", "NOERROR; private.example. 300 IN CNAME x.example.; x.example. 300 IN A 10.20.0.1", ""},
		{"127.0.0.1", "node.example.", "A", "NXDOMAIN", "brg1 dns node.example 198.51.100.77"},
		{"127.0.0.1", "six.example.", "AAAA", "NXDOMAIN", "brg1 dns six.example fd00:ec2::254"},
		{"127.0.0.1", "hint.example.", "HTTPS", "NXDOMAIN", "brg1 dns hint.example 10.0.0.1"},
		{"127.0.0.1", "svc.example.", "HTTPS", `NOERROR; svc.example. 300 IN HTTPS 1 . alpn="h2" ipv4hint="203.0.113.1"`, ""},
	} {
		if diff := cmp.Diff(tc.want, n.ask(t, "udp", tc.source, tc.name, tc.qtype)); diff != "" {
			t.Errorf("%s of %s (-want +got):\n%s", tc.name, tc.source, diff)
		}
		if diff := cmp.Diff(tc.denied, strings.Join(n.denials.all(), " ")); diff != "" {
			t.Errorf("%s of %s is denied (-want +got):\n%s", tc.name, tc.source, diff)
		}
	}
	if pins := n.kernel.pins(); pins != nil {
		t.Errorf("pinned %v", pins)
	}
}

// An answer that cannot be pinned is not given; that is so too where the policy changed
// while the upstream was asked.
func TestNoAnswerWithoutAPin(t *testing.T) {
	n := newNode(t)
	n.zone.set("a.example.com.", "A", "a.example.com. 300 IN A 203.0.113.1")
	n.tenants.set("127.0.0.1", Sandbox{Link: "brg1", Policy: compile(t, names("a.example.com")), Generation: 1})
	n.kernel.set(2, false)
	if got := n.ask(t, "udp", "127.0.0.1", "a.example.com.", "A"); got != "SERVFAIL" {
		t.Errorf("under an old policy: %s", got)
	}
	n.tenants.set("127.0.0.1", Sandbox{Link: "brg1", Policy: compile(t, names("a.example.com")), Generation: 2})
	if got := n.ask(t, "udp", "127.0.0.1", "a.example.com.", "A"); got != "NOERROR; a.example.com. 300 IN A 203.0.113.1" {
		t.Errorf("under the new one: %s", got)
	}
	n.kernel.set(2, true)
	n.flush()
	if got := n.ask(t, "udp", "127.0.0.1", "a.example.com.", "A"); got != "SERVFAIL" {
		t.Errorf("with a kernel that takes no pin: %s", got)
	}
}

// The reason of a denial is there for whoever can read it.
func TestDenialSaysWhy(t *testing.T) {
	n := newNode(t)
	n.tenants.set("127.0.0.1", Sandbox{Link: "brg1", Policy: compile(t, names("a.example.com")), Generation: 1})
	q := question("evil.net.", dns.TypeA, dns.ClassINET)
	q.SetEdns0(1232, false)
	m := n.exchange(t, "udp", "127.0.0.1", q)
	if opt := m.IsEdns0(); opt == nil || len(opt.Option) != 1 || opt.Option[0].String() != "17 (Filtered): (the sandbox's policy does not list this name)" {
		t.Errorf("%v", m)
	}
}

// TestFlips: an address that a name had is forgotten when it has run out, and one that
// it gets is pinned when it is told, whatever TTL the name's owner plays with.
func TestFlips(t *testing.T) {
	n := newNode(t)
	s := Sandbox{Link: "brg1", Policy: compile(t, names("a.example.com")), Generation: 1}
	n.tenants.set("127.0.0.1", s)
	for i, addr := range []string{"203.0.113.1", "10.0.0.1", "203.0.113.2", "169.254.169.254"} {
		n.zone.set("a.example.com.", "A", "a.example.com. 0 IN A "+addr)
		got := n.ask(t, "udp", "127.0.0.1", "a.example.com.", "A")
		pins := n.kernel.pins()
		if i%2 == 0 && (got != "NOERROR; a.example.com. 5 IN A "+addr || !slices.Equal(pins, []string{"brg1 " + addr + ":443 1m5s"})) ||
			i%2 == 1 && (got != "NXDOMAIN" || pins != nil) {
			t.Errorf("%s: %s, pinned %v", addr, got, pins)
		}
	}
	told := n.accounts.addresses(s, "a.example.com")
	if fmt.Sprint(told) != "[203.0.113.1 203.0.113.2]" {
		t.Errorf("told %v", told)
	}
	changed := s
	changed.Generation = 2
	if told := n.accounts.addresses(changed, "a.example.com"); told != nil {
		t.Errorf("after a change %v are remembered", told)
	}
}

func TestAddresses(t *testing.T) {
	n := newNode(t)
	n.zone.set("a.example.com.", "A", "a.example.com. 300 IN A 203.0.113.1", "a.example.com. 300 IN A 203.0.113.2")
	n.zone.set("b.example.com.", "A", "b.example.com. 300 IN A 203.0.113.3", "b.example.com. 300 IN A 10.0.0.1")
	n.zone.set("c.example.org.", "A", "c.example.org. 300 IN A 203.0.113.4")
	s := Sandbox{Link: "brg1", Policy: compile(t, names("*.example.com")), Generation: 1}
	n.tenants.set("127.0.0.1", s)
	n.ask(t, "udp", "127.0.0.1", "a.example.com.", "A")
	n.zone.questions()
	for _, tc := range []struct{ host, wanted, want, asked string }{
		{"a.example.com", "203.0.113.2", "[203.0.113.2 203.0.113.1] <nil>", "[]"},
		{"a.example.com", "203.0.113.3", "[] 203.0.113.3 is not an address of a.example.com", "[a.example.com. A]"},
		{"b.example.com", "203.0.113.3", "[203.0.113.3] <nil>", "[b.example.com. A]"}, // nobody was told, but it is true
		{"b.example.com", "203.0.113.3", "[203.0.113.3] <nil>", "[]"},
		{"b.example.com", "10.0.0.1", "[] 10.0.0.1 is not an address of b.example.com", "[b.example.com. A]"},
		{"b.example.com", "203.0.113.1", "[] 203.0.113.1 is not an address of b.example.com", "[b.example.com. A]"},
		{"c.example.org", "203.0.113.4", "[] the policy does not list the name", "[]"},
	} {
		addrs, err := n.Addresses(t.Context(), s, tc.host, netip.MustParseAddr(tc.wanted))
		if diff := cmp.Diff(tc.want, fmt.Sprint(addrs, " ", err)); diff != "" {
			t.Errorf("%s for %s (-want +got):\n%s", tc.wanted, tc.host, diff)
		}
		if diff := cmp.Diff(tc.asked, fmt.Sprint(n.zone.questions())); diff != "" {
			t.Errorf("%s for %s asks upstream (-want +got):\n%s", tc.wanted, tc.host, diff)
		}
	}
}
