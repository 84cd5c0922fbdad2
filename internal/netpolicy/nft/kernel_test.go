package nft

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"brig/internal/netns"
	"brig/internal/netpolicy"
	"brig/internal/require"
)

// world is a throwaway namespace with rules in it.
type world struct {
	t *testing.T
	Rules
	name string
	base Base
}

func newWorld(t *testing.T) *world {
	t.Helper()
	require.Net(t)
	w := &world{t: t, name: fmt.Sprintf("brigtest-%06x", time.Now().UnixNano()&0xffffff), base: testBase}
	if err := netns.Create(w.name); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := netns.Delete(w.name); err != nil {
			t.Error(err)
		}
	})
	w.Rules = In(netns.Path(w.name), filepath.Join(t.TempDir(), "policies"))
	return w
}

// seat puts them into the book, and brings the rules in order.
func (w *world) seat(seats ...Seat) {
	w.t.Helper()
	for _, s := range seats {
		if err := w.book.put(s); err != nil {
			w.t.Fatal(err)
		}
	}
	if _, err := w.Ensure(w.base, 0); err != nil {
		w.t.Fatal(err)
	}
}

var testBase = Base{
	Private:     []netip.Prefix{netip.MustParsePrefix("10.20.0.0/16"), netip.MustParsePrefix("fd12::/16")},
	Node:        []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("203.0.113.1"), netip.MustParseAddr("2001:db8::1")},
	Connections: 8192, NewConnections: 1000, Bandwidth: 1 << 20,
}

func (w *world) nft(input string, args ...string) string {
	w.t.Helper()
	cmd := exec.Command("ip", append([]string{"netns", "exec", w.name, "nft"}, args...)...)
	cmd.Stdin = strings.NewReader(input)
	out, err := cmd.CombinedOutput()
	if err != nil {
		w.t.Fatalf("nft %v: %v: %s", args, err, out)
	}
	return string(out)
}

func compiled(t *testing.T, s netpolicy.Spec) netpolicy.Policy {
	t.Helper()
	p, err := netpolicy.Compile(s, netpolicy.Ceiling{})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func list(entries ...string) *[]string { return &entries }

// seats of every kind.
func testSeats(t *testing.T) []Seat {
	few := compiled(t, netpolicy.Spec{CIDRAllowlist: list("8.8.8.8/32", "203.0.113.0/24", "2001:db8::/32")})
	names := compiled(t, netpolicy.Spec{DomainAllowlist: list("example.com"), CIDRAllowlist: list("1.1.1.0/24")})
	return []Seat{
		{Binding: binding(1)},
		{Binding: binding(2), Grant: &Grant{netpolicy.Open(), 1}},
		{Binding: binding(3), Grant: &Grant{few, 1}},
		{Binding: binding(4), Grant: &Grant{few, 7}},
		{Binding: binding(5), Grant: &Grant{names, 1}},
		{Binding: binding(6), Grant: &Grant{netpolicy.Open(), 1}, Lease: &Lease{Grant{few, 2}, time.Hour}},
		{Binding: binding(7), Grant: &Grant{netpolicy.Open(), 1}, Lease: &Lease{Grant{netpolicy.Policy{}, 2}, time.Hour}},
	}
}

func binding(n byte) Binding {
	b := Binding{Link: fmt.Sprintf("brg%012x", n), MAC: fmt.Sprintf("02:01:0a:58:00:%02x", n), Addr: netip.AddrFrom4([4]byte{10, 88, 0, n})}
	if n%2 == 0 {
		b.Addr6 = netip.MustParseAddr(fmt.Sprintf("fd00::%x", n))
	}
	return b
}

// TestTextIsWhatIsLoaded: the text, loaded by the nft program, is the same rule set as
// the one that is loaded by netlink. Both are listed by the same program.
func TestTextIsWhatIsLoaded(t *testing.T) {
	w := newWorld(t)
	seats := testSeats(t)
	w.seat(seats...)
	loaded := w.nft("", "-s", "list", "ruleset")
	text := transit(w.base, seats, 0).String() + neighbours().String()
	w.nft(text, "-c", "-f", "-")
	other := newWorld(t)
	other.nft(text, "-f", "-")
	if fromText := other.nft("", "-s", "list", "ruleset"); withoutTimes(fromText) != withoutTimes(loaded) {
		t.Errorf("by netlink:\n%s\nby text:\n%s", difference(t, loaded, fromText), "")
	}
}

// withoutTimes that elements have left.
func withoutTimes(listing string) string {
	var lines []string
	for line := range strings.Lines(listing) {
		fields := strings.Fields(line)
		for i := range fields {
			if i > 0 && fields[i-1] == "expires" {
				fields[i] = "…"
			}
		}
		lines = append(lines, strings.Join(fields, " "))
	}
	return strings.Join(lines, "\n")
}

func difference(t *testing.T, a, b string) string {
	dir := t.TempDir()
	for name, text := range map[string]string{"a": a, "b": b} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	out, _ := exec.Command("diff", filepath.Join(dir, "a"), filepath.Join(dir, "b")).CombinedOutput()
	return string(out)
}

// rulesOf lists the rule set of the world without what the packet path changes.
func (w *world) listing() string { return w.nft("", "-s", "list", "ruleset") }

func (w *world) ensure(now time.Duration) (repaired bool) {
	w.t.Helper()
	repaired, err := w.Ensure(w.base, now)
	if err != nil {
		w.t.Fatal(err)
	}
	return repaired
}

// TestTamperingIsRepaired changes one thing at a time, as another program or a hostile
// operator's would. It is found, and everything is in place again.
func TestTamperingIsRepaired(t *testing.T) {
	w := newWorld(t)
	w.seat(testSeats(t)...)
	if w.ensure(0) {
		t.Fatal("what nobody changed was repaired")
	}
	want := withoutTimes(w.listing())
	out, in := ruleSet{Policy: testSeats(t)[2].Grant.Policy}.chainNames()
	for _, change := range []string{
		"flush ruleset",
		"delete table arp brig",
		"add rule inet brig forward accept",
		"insert rule inet brig from_sandbox accept",
		"add chain inet brig other",
		"add chain inet brig other { type filter hook forward priority -5; policy accept; }",
		"add chain inet brig forward { policy accept; }",
		"flush chain inet brig deny_node",
		"flush chain inet brig " + out,
		"insert rule inet brig " + in + " accept",
		"delete element inet brig never4 { 10.0.0.0/8 }",
		"delete element inet brig headers6 { 43 }",
		"delete element inet brig node4 { 203.0.113.1 }",
		"delete element inet brig bind4 { brg000000000003 . 02:01:0a:58:00:03 . 10.88.0.3 }",
		"add element inet brig bind4 { brg000000000003 . 02:01:0a:58:00:03 . 10.88.0.99 }",
		"add element inet brig private4 { 192.168.0.0/16 }",
		"add element inet brig egress { brg000000000001 : goto out_open }",
		"add element inet brig egress { brg0000000000ff : goto out_open }",
		"delete element inet brig egress { brg000000000002 }",
		"delete element inet brig ask { brg000000000005 }",
		"delete element inet brig egress_lease { brg000000000007 }",
		"add element inet brig ask_lease { brg000000000001 : accept }",
		"delete element inet brig ingress_base { brg000000000006 }",
		"delete element inet brig egress { brg000000000003 }; add element inet brig egress { brg000000000003 : goto out_open }",
		"add element inet brig cidr4_" + strings.TrimPrefix(out, "out_") + " { 9.9.9.9 }",
		"add set inet brig mine { type ipv4_addr; }",
	} {
		w.nft(change, "-f", "-")
		if w.ensure(0); withoutTimes(w.listing()) != want {
			t.Errorf("%s: repaired to\n%s", change, difference(t, want, withoutTimes(w.listing())))
		}
		if w.ensure(0) {
			t.Errorf("%s: repaired twice", change)
		}
	}
}

// TestAddressesOfTheNodeChange: they follow without a touch to anything else.
func TestAddressesOfTheNodeChange(t *testing.T) {
	w := newWorld(t)
	s := testSeats(t)[4]
	w.seat(s)
	if err := w.Pin(s.Link, 1, []Pin{{Addr: netip.MustParseAddr("203.0.113.9"), Port: 443, TTL: time.Minute}}); err != nil {
		t.Fatal(err)
	}
	w.base.Node = append(w.base.Node, netip.MustParseAddr("198.51.100.7"))
	if w.ensure(0) {
		t.Error("all rules were put in place anew")
	}
	if pins, err := w.Pins(s.Link); err != nil || len(pins) != 1 {
		t.Errorf("pins %v, %v", pins, err)
	}
	if err := w.Verify(w.base, s, 0); err != nil {
		t.Error(err)
	}
	w.base.Connections = 5
	if !w.ensure(0) {
		t.Error("other limits are not in force")
	}
}

// TestLifeOfASeat: identity, a policy, another, a lease that ends by itself, nothing. What
// is no more is not left, and siblings notice nothing.
func TestLifeOfASeat(t *testing.T) {
	w := newWorld(t)
	w.seat(testSeats(t)[2])
	before := withoutTimes(w.listing())
	b := binding(9)
	if err := w.Identify(b); err != nil {
		t.Fatal(err)
	}
	list := compiled(t, netpolicy.Spec{CIDRAllowlist: list("9.9.9.9/32")})
	seats := []Seat{{Binding: b}, {Binding: b, Grant: &Grant{netpolicy.Open(), 1}}, {Binding: b, Grant: &Grant{list, 2}},
		{Binding: b, Grant: &Grant{list, 2}, Lease: &Lease{Grant{testSeats(t)[4].Grant.Policy, 3}, 2 * time.Second}},
		{Binding: b, Grant: &Grant{netpolicy.Policy{}, 4}}}
	for i, s := range seats {
		if i > 0 {
			if err := w.Replace(seats[i-1], s, 0); err != nil {
				t.Fatal(err)
			}
		}
		if err := errors.Join(w.Verify(w.base, s, 0), w.Confirm(w.base, s, 0)); err != nil {
			t.Errorf("%v: %v", s, err)
		}
		live := w.live(b.Link)
		out := ""
		if s.Grant != nil {
			out, _ = ruleSet{Policy: s.Grant.Policy}.chainNames()
		}
		if live.Chain != out || live.Binding != b || (live.Lease != nil) != (s.Lease != nil) {
			t.Errorf("%v: the kernel has %+v", s, live)
		}
		if got, err := w.Book().Get(b.Link); err != nil || got.Binding != b {
			t.Errorf("the book has %v, %v", got, err)
		}
		if s.Lease != nil {
			for w.live(b.Link).Lease != nil { // the test's own time ends this
				time.Sleep(50 * time.Millisecond)
			}
			if err := w.Verify(w.base, s, 3*time.Second); err != nil {
				t.Errorf("after the lease: %v", err)
			}
		}
	}
	if err := w.Remove(seats[len(seats)-1]); err != nil {
		t.Fatal(err)
	}
	time.Sleep(1500 * time.Millisecond) // in which the kernel frees what has ended
	if err := w.Tidy(); err != nil {
		t.Fatal(err)
	}
	if after := withoutTimes(w.listing()); after != before {
		t.Errorf("left:\n%s", difference(t, before, after))
	}
	if err := w.Remove(seats[0]); err != nil {
		t.Errorf("what is not there: %v", err)
	}
	if entries, err := os.ReadDir(string(w.Book())); err != nil || len(entries) != 4 {
		t.Errorf("the book has %v, %v; want one seat, its address and its policy", entries, err)
	}
}

func (w *world) live(link string) Live {
	w.t.Helper()
	all, err := w.Live()
	if err != nil {
		w.t.Fatal(err)
	}
	for _, l := range all {
		if l.Link == link {
			return l
		}
	}
	return Live{}
}

// TestAChangeWithoutTrust: when somebody else changed the rules, nothing is built on them
// and the book stays.
func TestAChangeWithoutTrust(t *testing.T) {
	w := newWorld(t)
	s := testSeats(t)[1]
	w.seat(s)
	w.nft("add rule inet brig forward accept", "-f", "-")
	next := Seat{Binding: s.Binding, Grant: &Grant{Policy: netpolicy.Policy{}, Generation: 2}}
	if err := w.Replace(s, next, 0); !errors.Is(err, ErrTampered) {
		t.Errorf("error %v", err)
	}
	if got, err := w.Book().Get(s.Link); err != nil || got.Grant.Generation != 1 {
		t.Errorf("the book has %v, %v", got, err)
	}
}

// TestPinsGoWithThePolicy: pins and what was made of them end when the policy changes.
func TestPinsGoWithThePolicy(t *testing.T) {
	w := newWorld(t)
	s, other := testSeats(t)[4], testSeats(t)[5]
	w.seat(s, other)
	pins := []Pin{{netip.MustParseAddr("203.0.113.9"), 443, time.Minute}, {netip.MustParseAddr("203.0.113.9"), 8443, time.Minute}}
	for range 2 { // again is no error
		if err := errors.Join(w.Pin(s.Link, 1, pins), w.Pin(other.Link, 1, pins[1:])); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := w.Pins(s.Link); err != nil || len(got) != 2 || got[0].Port != 443 || got[1].Port != 8443 || got[1].Addr != pins[1].Addr || got[1].TTL <= 50*time.Second {
		t.Errorf("pins %v, %v", got, err)
	}
	for _, bad := range []Pin{{netip.MustParseAddr("2001:db8::1"), 443, time.Minute}, {pins[0].Addr, 0, time.Minute}, {pins[0].Addr, 443, 0}} {
		if err := w.Pin(s.Link, 1, []Pin{bad}); err == nil {
			t.Errorf("%v was pinned", bad)
		}
	}
	next := s
	next.Grant = &Grant{s.Grant.Policy, 2}
	if err := w.Replace(s, next, 0); err != nil {
		t.Fatal(err)
	}
	if got, err := w.Pins(s.Link); err != nil || len(got) != 0 {
		t.Errorf("pins of the old policy: %v, %v", got, err)
	}
	if got, err := w.Pins(other.Link); err != nil || len(got) != 1 {
		t.Errorf("a sibling's pins: %v, %v", got, err)
	}
}

// TestManyRanges: a list of the greatest length is loaded exactly, at its ends too.
func TestManyRanges(t *testing.T) {
	w := newWorld(t)
	entries := make([]string, 0, netpolicy.MaxEntries)
	for i := range netpolicy.MaxEntries - 2 {
		entries = append(entries, fmt.Sprintf("%d.%d.%d.%d/32", 11+i>>15, i>>7&0xff, i<<1&0xff, 255*(i&1)))
	}
	entries = append(entries, "223.255.255.255/32", "3fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128")
	s := Seat{Binding: binding(1), Grant: &Grant{compiled(t, netpolicy.Spec{CIDRAllowlist: &entries}), 1}}
	w.seat()
	if err := errors.Join(w.Identify(s.Binding), w.Replace(Seat{Binding: s.Binding}, s, 0), w.Verify(w.base, s, 0)); err != nil {
		t.Fatal(err)
	}
	w.nft("delete element inet brig "+ruleSet{Policy: s.Grant.Policy}.sets()[0].name+" { 11.0.0.0 }", "-f", "-")
	if w.Verify(w.base, s, 0) == nil || w.Confirm(w.base, s, 0) == nil {
		t.Error("one missing range of 100,000 is not noticed")
	}
}

func TestHost(t *testing.T) {
	w := newWorld(t)
	err := netns.Do(w.Path(), func() error {
		h := Host{Table: "brig-test", Link: "brig-test", Pool: netip.MustParsePrefix("10.88.0.0/16"), Pool6: netip.MustParsePrefix("fd00:1:2:3::/64"), Trust: filepath.Join(t.TempDir(), "host.trust")}
		w.nft("add table inet other; add chain inet other c { type filter hook forward priority 0; policy drop; }", "-f", "-")
		for _, change := range []string{"", "flush ruleset", "insert rule inet brig-test input accept", "flush chain inet brig-test post", "delete table inet brig-test"} {
			if change != "" {
				w.nft(change, "-f", "-")
			}
			if repaired, err := h.Ensure(); err != nil || !repaired {
				t.Errorf("%q: repaired %t, %v", change, repaired, err)
			}
			if repaired, err := h.Ensure(); err != nil || repaired {
				t.Errorf("%q: repaired twice (%t), %v", change, repaired, err)
			}
			if change == "" && !strings.Contains(w.listing(), "table inet other") {
				t.Error("a foreign table is gone")
			}
		}
		loaded := w.listing()
		if err := errors.Join(RemoveHost(h.Table), RemoveHost(h.Table)); err != nil {
			return err
		}
		if left := w.listing(); left != "" {
			t.Errorf("left: %s", left)
		}
		w.nft(h.String(), "-f", "-")
		if fromText := w.listing(); fromText != loaded {
			t.Errorf("text and netlink differ:\n%s", difference(t, loaded, fromText))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestUnknownExpressions: a rule that says what brig's rules never say is not read as one
// without it.
func TestUnknownExpressions(t *testing.T) {
	w := newWorld(t)
	w.seat(testSeats(t)...)
	w.nft("add rule inet brig refuse numgen inc mod 2 0 drop", "-f", "-")
	for name, look := range map[string]func(Base, Seat, time.Duration) error{"verify": w.Verify, "confirm": w.Confirm} {
		if err := look(w.base, testSeats(t)[1], 0); err == nil {
			t.Errorf("%s: a rule of others in brig's chain is not noticed", name)
		}
	}
}

func TestLiveWithoutRules(t *testing.T) {
	if all, err := newWorld(t).Live(); err != nil || len(all) != 0 {
		t.Errorf("%v, %v", all, err)
	}
}
