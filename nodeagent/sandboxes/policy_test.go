package sandboxes_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"

	"brig/internal/netpolicy"
	"brig/nodeagent/denials"
	"brig/nodeagent/events"
	"brig/nodeagent/explain"
	"brig/nodeagent/record"
	"brig/nodeagent/sandboxes"
)

func entries(list ...string) *[]string {
	list = append([]string{}, list...)
	return &list
}

// inForce is the policy of a sandbox as text.
func inForce(t *testing.T, b *brigd, rec record.Record) string {
	t.Helper()
	rec, err := b.store.Get(rec.ID)
	if err != nil {
		t.Fatal(err)
	}
	p, err := b.Policy(rec)
	if err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf("%d %s", p.Generation, words(p.Spec))
	if !p.Until.IsZero() {
		text += fmt.Sprintf(" then %d %s", p.BaseGeneration, words(p.Base))
	}
	if !p.Bound {
		text += " unbound"
	}
	return text
}

func words(s netpolicy.Spec) string {
	switch {
	case s.BlockNetwork:
		return "block"
	case s.CIDRAllowlist != nil:
		return fmt.Sprint(*s.CIDRAllowlist)
	}
	return "open"
}

func set(t *testing.T, b *brigd, rec record.Record, c sandboxes.Change) sandboxes.Policy {
	t.Helper()
	p, err := b.SetPolicy(t.Context(), rec, c)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func mustBe(t *testing.T, b *brigd, rec record.Record, want string) {
	t.Helper()
	if got := inForce(t, b, rec); got != want {
		t.Errorf("in force is %s, want %s", got, want)
	}
}

func TestPolicyChanges(t *testing.T) {
	n := newNode(t)
	n.changed = make(chan string, 16)
	b := n.start(t)
	rec := create(t, b, record.Request{})
	mustBe(t, b, rec, "1 open")
	two := netpolicy.Spec{CIDRAllowlist: entries("203.0.113.128/25", "203.0.113.0/25")} // in these words
	if p := set(t, b, rec, sandboxes.Change{Spec: two, Expected: 1}); p.Generation != 2 {
		t.Errorf("generation %d, want 2", p.Generation)
	}
	mustBe(t, b, rec, "2 [203.0.113.128/25 203.0.113.0/25]")
	if link := <-n.changed; link != n.Link(string(rec.ID)) {
		t.Errorf("told that link %s has changed", link)
	}
	for name, tc := range map[string]struct {
		change sandboxes.Change
		class  func(error) bool
		want   string
	}{
		"another generation": {sandboxes.Change{Expected: 1}, errdefs.IsAborted, "generation 2 is in force, not 1"},
		"a bad entry": {sandboxes.Change{Spec: netpolicy.Spec{CIDRAllowlist: entries("1.1.1.1/32", "not-an-ip/8")}}, errdefs.IsInvalidArgument,
			"Invalid CIDR: not-an-ip/8"},
		"a contradiction": {sandboxes.Change{Spec: netpolicy.Spec{BlockNetwork: true, CIDRAllowlist: entries()}}, errdefs.IsInvalidArgument,
			"cidr_allowlist cannot be used when block_network is enabled"},
		"a short lease": {sandboxes.Change{Lease: time.Millisecond}, errdefs.IsInvalidArgument, "invalid lease 1ms: want 1s to 24h0m0s"},
		"a long lease":  {sandboxes.Change{Lease: 48 * time.Hour}, errdefs.IsInvalidArgument, "invalid lease 48h0m0s"},
	} {
		if _, err := b.SetPolicy(t.Context(), rec, tc.change); err == nil || !tc.class(err) || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v; want %s", name, err, tc.want)
		}
		mustBe(t, b, rec, "2 [203.0.113.128/25 203.0.113.0/25]")
	}
	n.Fail("change", errors.New("the kernel is full"))
	if _, err := b.SetPolicy(t.Context(), rec, sandboxes.Change{}); err == nil {
		t.Error("a change that failed is no error")
	}
	n.Fail("change", nil)
	mustBe(t, b, rec, "2 [203.0.113.128/25 203.0.113.0/25]")
	b.stop()
	b = n.start(t)
	mustBe(t, b, rec, "2 [203.0.113.128/25 203.0.113.0/25]")
	set(t, b, rec, sandboxes.Change{Spec: netpolicy.Spec{BlockNetwork: true}})
	mustBe(t, b, rec, "3 block")
	if _, err := b.Terminate(t.Context(), rec, 0); err != nil {
		t.Fatal(err)
	}
	rec, err := b.store.Get(rec.ID)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.SetPolicy(t.Context(), rec, sandboxes.Change{}); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("of an ended sandbox: %v; want an ErrFailedPrecondition", err)
	}
	mustBe(t, b, rec, "3 block unbound")
}

// A sandbox that was made without an interface cannot be given one.
func TestPolicyOfASandboxWithoutANetwork(t *testing.T) {
	b := newNode(t).start(t)
	rec := create(t, b, record.Request{Network: netpolicy.Spec{BlockNetwork: true}})
	mustBe(t, b, rec, "1 block unbound")
	_, err := b.SetPolicy(t.Context(), rec, sandboxes.Change{Spec: netpolicy.Spec{CIDRAllowlist: entries()}})
	if !errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), "make a new one") {
		t.Errorf("%v; want an ErrFailedPrecondition that says what to do", err)
	}
	if p := set(t, b, rec, sandboxes.Change{Spec: netpolicy.Spec{BlockNetwork: true}, Expected: 1}); p.Generation != 1 {
		t.Errorf("blocked again: generation %d", p.Generation)
	}
	if _, err := b.SetPolicy(t.Context(), rec, sandboxes.Change{Spec: netpolicy.Spec{BlockNetwork: true}, Expected: 2}); !errdefs.IsAborted(err) {
		t.Errorf("another generation: %v; want an ErrAborted", err)
	}
	if a, err := b.Explain(t.Context(), rec, explain.Question{Addr: netip.MustParseAddr("8.8.8.8")}); err != nil || a.Verdict != explain.Deny {
		t.Errorf("explained: %+v, %v", a, err)
	}
}

func TestLease(t *testing.T) {
	n := newNode(t)
	b := n.start(t)
	rec := create(t, b, record.Request{})
	heard, err := b.parts.Events.Listen(events.Filter{Sandbox: rec.ID})
	if err != nil {
		t.Fatal(err)
	}
	defer heard.Close()
	p := set(t, b, rec, sandboxes.Change{Spec: netpolicy.Spec{CIDRAllowlist: entries()}, Lease: time.Second})
	if left := time.Until(p.Until); left > time.Second || left < 0 {
		t.Errorf("the lease ends in %v", left)
	}
	mustBe(t, b, rec, "2 [] then 1 open")
	stored, err := b.store.Get(rec.ID)
	if err != nil {
		t.Fatal(err)
	}
	if spec, generation := b.PolicyOf(stored); words(spec) != "[]" || generation != 2 {
		t.Errorf("listed as %s, %d", words(spec), generation)
	}
	var got []string
	for range 2 {
		e, err := heard.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, fmt.Sprint(e.Policy.Generation, " ", e.Policy.Reverted, " ", e.Policy.Until.IsZero()))
	}
	if diff := cmp.Diff([]string{"2 false false", "1 true true"}, got); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	mustBe(t, b, rec, "1 open")
	// A brigd that was away while a lease ended: nothing happens at its start.
	set(t, b, rec, sandboxes.Change{Spec: netpolicy.Spec{CIDRAllowlist: entries("1.1.1.1/32")}, Lease: time.Second})
	b.stop()
	time.Sleep(time.Second)
	b = n.start(t)
	mustBe(t, b, rec, "1 open")
	figures := httptest.NewRecorder()
	b.parts.Metrics.Handler().ServeHTTP(figures, httptest.NewRequest("GET", "/metrics", nil))
	if !strings.Contains(figures.Body.String(), "\nbrig_policy_changes_total{result=\"reverted\"} 0\n") {
		t.Error("a lease that had ended before is counted")
	}
}

// A change for good ends a lease, whose end is then nothing that happens.
func TestALeaseIsSuperseded(t *testing.T) {
	b := newNode(t).start(t)
	rec := create(t, b, record.Request{})
	heard, err := b.parts.Events.Listen(events.Filter{Sandbox: rec.ID})
	if err != nil {
		t.Fatal(err)
	}
	defer heard.Close()
	const lease = 2 * time.Second // in which the next is made, also where it takes long
	set(t, b, rec, sandboxes.Change{Spec: netpolicy.Spec{CIDRAllowlist: entries()}, Lease: lease})
	set(t, b, rec, sandboxes.Change{Spec: netpolicy.Spec{CIDRAllowlist: entries("1.1.1.1/32")}})
	time.Sleep(lease + 200*time.Millisecond)
	mustBe(t, b, rec, "3 [1.1.1.1/32]")
	set(t, b, rec, sandboxes.Change{})
	for _, want := range []uint64{2, 3, 4} {
		if e, err := heard.Next(t.Context()); err != nil || e.Policy.Generation != want || e.Policy.Reverted {
			t.Errorf("%+v, %v; want generation %d", e.Policy, err, want)
		}
	}
}

// What stands the node's record decides: of a change by others, or one that this
// brigd's predecessor died of, the words are found or made up.
func TestTheNodesRecordDecides(t *testing.T) {
	n := newNode(t)
	b := n.start(t)
	rec := create(t, b, record.Request{})
	spec := netpolicy.Spec{CIDRAllowlist: entries("203.0.113.128/25", "203.0.113.0/25")}
	policy, err := netpolicy.Compile(spec, netpolicy.Ceiling{})
	if err != nil {
		t.Fatal(err)
	}
	died := func(r *record.Record) error { r.Writing(spec, policy); return nil }
	if _, err := b.store.Update(rec.ID, died); err != nil {
		t.Fatal(err)
	}
	mustBe(t, b, rec, "1 open") // it died before the deed
	b.stop()
	b = n.start(t)
	mustBe(t, b, rec, "1 open")
	if _, err := b.store.Update(rec.ID, died); err != nil {
		t.Fatal(err)
	}
	n.Impose(string(rec.ID), policy, 2) // and here after it
	mustBe(t, b, rec, "2 [203.0.113.128/25 203.0.113.0/25]")
	b.stop()
	b = n.start(t)
	mustBe(t, b, rec, "2 [203.0.113.128/25 203.0.113.0/25]")
	other, err := netpolicy.Compile(netpolicy.Spec{CIDRAllowlist: entries("198.51.100.0/25", "198.51.100.128/25")}, netpolicy.Ceiling{})
	if err != nil {
		t.Fatal(err)
	}
	n.Impose(string(rec.ID), other, 9)
	mustBe(t, b, rec, "9 [198.51.100.0/24]")
}

// Clients of tunnels are judged by what is in force now.
func TestTunnelsFollowThePolicy(t *testing.T) {
	service, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer service.Close()
	go func() {
		for {
			conn, err := service.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(conn, conn); conn.Close() }()
		}
	}()
	n := newNode(t)
	b := n.start(t)
	rec := create(t, b, record.Request{Ports: []record.Port{{Sandbox: uint16(service.Addr().(*net.TCPAddr).Port), Kind: record.TCP}}})
	dial := func() net.Conn {
		t.Helper()
		conn, err := net.DialTCP("tcp", nil, address(rec.Tunnels[0]))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		return conn
	}
	echo := func(conn net.Conn) bool {
		if _, err := conn.Write([]byte("x")); err != nil {
			return false
		}
		_, err := io.ReadFull(conn, make([]byte, 1))
		return err == nil
	}
	conn := dial()
	if !echo(conn) {
		t.Fatal("the tunnel does not answer")
	}
	set(t, b, rec, sandboxes.Change{Spec: netpolicy.Spec{CIDRAllowlist: entries()}})
	if !echo(conn) {
		t.Error("a change that admits it cut a connection")
	}
	// A refused client may be reset before its dial returns.
	answers := func() bool {
		conn, err := net.DialTCP("tcp", nil, address(rec.Tunnels[0]))
		if err != nil {
			return false
		}
		defer conn.Close()
		return conn.SetDeadline(time.Now().Add(10*time.Second)) == nil && echo(conn)
	}
	set(t, b, rec, sandboxes.Change{Spec: netpolicy.Spec{InboundCIDRAllowlist: entries("203.0.113.0/24")}, Lease: time.Second})
	if echo(conn) || answers() {
		t.Error("a client that is not admitted is answered")
	}
	b.stop()
	b = n.start(t)
	eventually := time.Now().Add(10 * time.Second)
	for !answers() {
		if time.Now().After(eventually) {
			t.Fatal("after the lease no client is admitted")
		}
		time.Sleep(50 * time.Millisecond)
	}
	conn = dial()
	if !echo(conn) {
		t.Fatal("the tunnel does not answer")
	}
	set(t, b, rec, sandboxes.Change{Spec: netpolicy.Spec{BlockNetwork: true}})
	if echo(conn) || answers() {
		t.Error("block_network lets a client in")
	}
}

func TestResolvConfFollowsThePolicy(t *testing.T) {
	n := newNode(t)
	b := n.start(t)
	rec := create(t, b, record.Request{Network: netpolicy.Spec{CIDRAllowlist: entries()}})
	path := filepath.Join(n.cfg.JournalDir(string(rec.ID)), "resolv.conf")
	before, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	set(t, b, rec, sandboxes.Change{})
	data, err := os.ReadFile(path)
	if err != nil || !strings.HasPrefix(string(data), "nameserver 169.254.1.1\n") {
		t.Errorf("%q, %v", data, err)
	}
	// The sandbox has the file, not its name.
	if after, err := os.Stat(path); err != nil || !os.SameFile(before, after) {
		t.Errorf("another file, %v", err)
	}
}

func TestEvents(t *testing.T) {
	n := newNode(t)
	b := n.start(t)
	mine, err := b.parts.Events.Listen(events.Filter{UID: 1000})
	if err != nil {
		t.Fatal(err)
	}
	defer mine.Close()
	all, err := b.parts.Events.Listen(events.Filter{UID: 0})
	if err != nil {
		t.Fatal(err)
	}
	defer all.Close()
	rec := create(t, b, record.Request{Name: "web"})
	b.Denied(denials.Denial{Link: n.Link(string(rec.ID)), Reason: denials.Policy, Count: 2})
	b.Denied(denials.Denial{Link: "brgsomebodyelse", Reason: denials.Never, Count: 1})
	n.Exit(string(rec.ID), 3)
	wait(t, b, rec)
	text := func(l *events.Listener, count int) (got []string) {
		for range count {
			e, err := l.Next(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			who := "nobody"
			if e.Sandbox == rec.ID {
				who = "web"
			}
			switch {
			case e.Created != nil:
				got = append(got, who+" created "+e.Created.Name)
			case e.Denied != nil:
				got = append(got, fmt.Sprintf("%s denied %s x%d generation %d", who, e.Denied.Reason, e.Denied.Count, e.Denied.Generation))
			case e.Exited != nil:
				got = append(got, fmt.Sprintf("%s exited %d %s", who, e.Exited.Code, e.Exited.Reason))
			}
		}
		return got
	}
	want := []string{"web created web", "web denied policy x2 generation 1", "web exited 3 exited"}
	if diff := cmp.Diff(want, text(mine, 3)); diff != "" {
		t.Errorf("the owner hears (-want +got):\n%s", diff)
	}
	want = []string{want[0], want[1], "nobody denied never x1 generation 0", want[2]}
	if diff := cmp.Diff(want, text(all, 4)); diff != "" {
		t.Errorf("root hears (-want +got):\n%s", diff)
	}
}

func TestExplainSaysWhatTheKernelHas(t *testing.T) {
	n := newNode(t)
	b := n.start(t)
	rec := create(t, b, record.Request{Network: netpolicy.Spec{CIDRAllowlist: entries("203.0.113.0/24")}})
	ask := func(addr string) string {
		t.Helper()
		a, err := b.Explain(t.Context(), rec, explain.Question{Addr: netip.MustParseAddr(addr), Port: 443, Protocol: "tcp"})
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf("%t %d %s", a.Verdict == explain.Allow, a.Generation, a.Rule)
	}
	for addr, want := range map[string]string{
		"203.0.113.7": "true 1 entry 203.0.113.0/24 of cidr_allowlist",
		"8.8.8.8":     "false 1 default deny: no entry of cidr_allowlist holds it",
	} {
		if got := ask(addr); got != want {
			t.Errorf("%s: %s, want %s", addr, got, want)
		}
	}
	n.Differ("it has no seat")
	if got := ask("203.0.113.7"); got != "false 1 the kernel's rules are not what is on record, so nothing is certain: it has no seat" {
		t.Errorf("with a difference: %s", got)
	}
}
