package resolver

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"

	"brig/internal/netpolicy"
)

// What a sandbox chooses under a wildcard has a budget; what it was told before does
// not count, and the very names of the list do not either.
func TestExfiltrationByNames(t *testing.T) {
	n := newNode(t)
	n.tenants.set("127.0.0.1", Sandbox{Link: "brg1", Policy: compile(t, names("*.example.com", "exact.example.com")), Generation: 1})
	n.tenants.set("127.0.0.2", Sandbox{Link: "brg2", Policy: compile(t, names("*.example.com")), Generation: 1})
	n.zone.set("exact.example.com.", "A", "exact.example.com. 300 IN A 203.0.113.1")
	known := strings.Repeat("k", 60) + ".example.com."
	n.zone.set(known, "A", known+" 300 IN A 203.0.113.2")
	ask := func(source, name string) string {
		code, _, _ := strings.Cut(n.ask(t, "udp", source, name, "A"), ";")
		return code
	}
	for _, tc := range []struct{ name, want string }{
		{strings.Repeat("a", 50) + "." + strings.Repeat("b", 48) + ".example.com.", "NXDOMAIN"},
		{strings.Repeat("a", 50) + "." + strings.Repeat("b", 49) + ".example.com.", "REFUSED"},
		{strings.Repeat("a.", 8) + "example.com.", "NXDOMAIN"},
		{strings.Repeat("a.", 9) + "example.com.", "REFUSED"},
		{known, "NOERROR"},
	} {
		if got := ask("127.0.0.1", tc.name); got != tc.want {
			t.Errorf("%s: %s, want %s", tc.name, got, tc.want)
		}
	}
	left := 0
	data := strings.Repeat("d", 39)
	for i := range 100 {
		if ask("127.0.0.1", fmt.Sprintf("%s%02d.example.com.", data, i)) != "REFUSED" {
			left++
		}
	}
	if most := freeBurst/42 + 5; left > most {
		t.Errorf("%d names of 42 octets left the node at once, want %d at most", left, most)
	}
	for name, want := range map[string]string{"exact.example.com.": "NOERROR", known: "NOERROR", data + "x.example.com.": "REFUSED"} {
		if got := ask("127.0.0.1", name); got != want {
			t.Errorf("with the budget spent, %s: %s, want %s", name, got, want)
		}
	}
	if got := ask("127.0.0.2", data+"x.example.com."); got != "NXDOMAIN" {
		t.Errorf("another sandbox: %s", got)
	}
}

func TestQuestionsPerSecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAccounts()
		s := Sandbox{Link: "brg1", Generation: 1}
		count := func(open bool) (admitted int) {
			for range 5000 {
				if a.admit(s, open) {
					admitted++
				}
			}
			return admitted
		}
		if got := count(false); got != listedBurst {
			t.Errorf("with a list, at once: %d", got)
		}
		time.Sleep(2 * time.Second)
		if got := count(false); got != 2*listedRate {
			t.Errorf("with a list, after 2 s: %d", got)
		}
		if got := count(true); got != openBurst {
			t.Errorf("open, at once: %d", got)
		}
		s.Link = "brg2"
		if got := count(true); got != openBurst {
			t.Errorf("another sandbox: %d", got)
		}
	})
}

// What is remembered is bounded for one sandbox and for all, and runs out.
func TestMemoryIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAccounts()
		addrs := func(i int) []netip.Addr {
			return []netip.Addr{netip.AddrFrom4([4]byte{203, 0, byte(i >> 8), byte(i)})}
		}
		told := 0
		for sandbox := range maxToldAll/maxTold + 10 {
			s := Sandbox{Link: fmt.Sprint("brg", sandbox), Generation: 1}
			for i := range maxTold + 10 {
				if a.tell(s, fmt.Sprint(i%50, ".example.com"), addrs(i), time.Now().Add(time.Minute)) {
					told++
				}
			}
		}
		if told != maxToldAll || a.told != maxToldAll {
			t.Errorf("%d entries told, %d counted; want %d", told, a.told, maxToldAll)
		}
		time.Sleep(2 * time.Minute)
		s := Sandbox{Link: "brg0", Generation: 1}
		if got := a.addresses(s, "0.example.com"); got != nil {
			t.Errorf("%d addresses hold after their time", len(got))
		}
		if !a.tell(s, "new.example.com", addrs(1), time.Now().Add(time.Minute)) || a.told != 1 {
			t.Errorf("after their time %d entries are counted, want the new one", a.told)
		}
		time.Sleep(idle + 2*sweepEvery)
		a.admit(Sandbox{Link: "brg-new"}, true)
		if len(a.of) != 1 {
			t.Errorf("%d accounts are left of sandboxes that are gone", len(a.of)-1)
		}
	})
}

func TestFullAccountGivesRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAccounts()
		s := Sandbox{Link: "brg1", Generation: 1}
		for i := range maxTold {
			a.tell(s, "a.example.com", []netip.Addr{netip.AddrFrom4([4]byte{203, 0, byte(i >> 8), byte(i)})}, time.Now().Add(time.Second))
		}
		time.Sleep(2 * time.Second)
		if !a.tell(s, "b.example.com", []netip.Addr{netip.MustParseAddr("203.0.113.1")}, time.Now().Add(time.Minute)) || a.told != 1 {
			t.Errorf("there is no room beside what has run out; %d entries are counted", a.told)
		}
	})
}

// The kernel is told what it does not know: an address that is pinned for longer under
// another name stays so long, and after a while it is told again in any case.
func TestDue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAccounts()
		s := Sandbox{Link: "brg1", Generation: 1}
		x, y := netip.MustParseAddr("203.0.113.1"), netip.MustParseAddr("203.0.113.2")
		for i, step := range []struct {
			wait time.Duration
			pins []Pin
			want string
		}{
			{0, []Pin{{x, 443, 300 * time.Second}}, "[{203.0.113.1 443 5m0s}]"},
			{0, []Pin{{x, 443, 300 * time.Second}, {y, 443, 60 * time.Second}}, "[{203.0.113.2 443 1m0s}]"},
			{time.Second, []Pin{{x, 443, 65 * time.Second}}, "[]"},
			{time.Second, []Pin{{x, 8443, 65 * time.Second}}, "[{203.0.113.1 8443 1m5s}]"},
			{time.Second, []Pin{{x, 443, 400 * time.Second}}, "[{203.0.113.1 443 6m40s}]"},
			{pinAgain, []Pin{{x, 443, 65 * time.Second}}, "[{203.0.113.1 443 6m30s}]"},
			{400 * time.Second, []Pin{{x, 443, 65 * time.Second}}, "[{203.0.113.1 443 1m5s}]"},
		} {
			time.Sleep(step.wait)
			due, ok := a.due(s, step.pins)
			if got := fmt.Sprint(due); got != step.want || !ok {
				t.Errorf("step %d: %s, want %s", i, got, step.want)
			}
			a.pin(s, due)
		}
		s.Generation = 2
		if due, _ := a.due(s, []Pin{{x, 443, time.Second}}); len(due) != 1 {
			t.Error("under another policy an address is taken for pinned")
		}
		var many []Pin
		for port := range maxPinned + 1 {
			many = append(many, Pin{y, uint16(port + 1), time.Minute})
		}
		if _, ok := a.due(s, many); ok {
			t.Error("there is room for any number of pins")
		}
		a.pin(s, many[1:])
		if _, ok := a.due(s, many[:1]); ok {
			t.Error("there is room for any number of pins, one by one")
		}
		time.Sleep(2 * time.Minute)
		if _, ok := a.due(s, many[:1]); !ok || a.told != 0 {
			t.Errorf("after their time pins take room: %d", a.told)
		}
	})
}

// FuzzLookUp compares with the plainest reading of the list: label by label, from the
// right, on the octets that go over the wire.
func FuzzLookUp(f *testing.F) {
	for _, s := range []string{"example.com.", "a.example.com.", "evilexample.com.", `evil\.example.com.`, "A.B.Example.COM.", ".example.com.", "a..example.com.", "example.com.a."} {
		f.Add(s)
	}
	list, err := netpolicy.Compile(netpolicy.Spec{DomainAllowlist: &[]string{"example.org", "*.example.com"}}, netpolicy.Ceiling{})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, name string) {
		host, ok := Hostname(name)
		known := false
		if ok {
			_, known = lookUp(list.Names(), host)
		}
		if want := plain(name); known && !want {
			t.Errorf("%q is taken for a listed name", name)
		}
	})
}

// plain packs the name as DNS does and compares labels.
func plain(name string) bool {
	wire := make([]byte, 300)
	end, err := dns.PackDomainName(dns.Fqdn(name), wire, 0, nil, false)
	if err != nil {
		return false
	}
	var labels []string
	for at := 0; at < end && wire[at] > 0; at += int(wire[at]) + 1 {
		labels = append(labels, strings.ToLower(string(wire[at+1:at+1+int(wire[at])])))
	}
	n := len(labels)
	if n < 2 {
		return false
	}
	parent := labels[n-2] + "|" + labels[n-1]
	return n == 2 && parent == "example|org" || n > 2 && parent == "example|com"
}
