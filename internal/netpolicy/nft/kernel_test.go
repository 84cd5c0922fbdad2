package nft

import (
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
