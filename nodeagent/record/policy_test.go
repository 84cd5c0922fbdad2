package record

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"brig/internal/netpolicy"
	"brig/nodeagent/standing"
)

func entries(list ...string) *[]string {
	list = append([]string{}, list...)
	return &list
}

func compile(t *testing.T, s netpolicy.Spec) netpolicy.Policy {
	t.Helper()
	p, err := netpolicy.Compile(s, netpolicy.Ceiling{AllowPrivate: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// What SpecOf writes means what it was written of.
func TestSpecOf(t *testing.T) {
	for _, s := range []netpolicy.Spec{
		{}, {BlockNetwork: true}, {DNS: "off"}, {CIDRAllowlist: entries()}, {DomainAllowlist: entries()},
		{CIDRAllowlist: entries("10.0.0.0/8", "203.0.113.1/32", "203.0.113.2/31", "203.0.113.4/30", "2606:4700::/32"), DNS: "resolver"},
		{CIDRAllowlist: entries("0.0.0.0/0", "::/0")},
		{DomainAllowlist: entries("*.example.com", "example.org:8443"), InboundCIDRAllowlist: entries("192.0.2.0/24", "192.0.3.0/25", "::/0", "0.0.0.0/0")},
		{InboundCIDRAllowlist: entries()},
	} {
		want := compile(t, s)
		written := SpecOf(want)
		if got := compile(t, written); got.Sum() != want.Sum() {
			t.Errorf("%+v\n is %s,\nwhich as %+v\n is %s", s, want.Canonical(), written, got.Canonical())
		}
	}
}

func TestPolicies(t *testing.T) {
	first, second, third := netpolicy.Spec{}, netpolicy.Spec{CIDRAllowlist: entries("203.0.113.0/25", "203.0.113.128/25")}, netpolicy.Spec{CIDRAllowlist: entries()}
	grant := func(s netpolicy.Spec, generation uint64) standing.Grant {
		return standing.Grant{Policy: compile(t, s), Generation: generation}
	}
	r := Record{Request: Request{Network: first}}
	at := func(now time.Duration) string {
		spec, generation := r.Policy(now, "b")
		switch {
		case spec.CIDRAllowlist == nil:
			return "first " + string(rune('0'+generation))
		case len(*spec.CIDRAllowlist) == 2:
			return "second " + string(rune('0'+generation))
		}
		return "third " + string(rune('0'+generation))
	}
	check := func(what, want string, now time.Duration) {
		t.Helper()
		if got := at(now); got != want {
			t.Errorf("%s: %s, want %s", what, got, want)
		}
	}
	check("of an older brigd", "first 0", 0)
	r.Writing(first, compile(t, first))
	base := grant(first, 1)
	r.Stands(standing.Standing{Grant: &base}, "b")
	check("made", "first 1", 0)

	r.Writing(second, compile(t, second))
	check("on its way", "first 1", 0)
	base = grant(second, 2)
	r.Stands(standing.Standing{Grant: &base}, "b")
	check("changed", "second 2", 0)

	r.Writing(third, compile(t, third))
	lease := standing.Lease{Grant: grant(third, 3), Until: 100}
	r.Stands(standing.Standing{Grant: &base, Lease: &lease}, "b")
	check("a lease", "third 3", 99)
	check("the lease is over", "second 2", 100)
	if spec, _ := r.Policy(50, "another boot"); len(*spec.CIDRAllowlist) != 2 {
		t.Error("a lease outlives its boot")
	}

	// A change that came to nothing, and one that another process made.
	r.Writing(first, compile(t, first))
	r.Writing(third, compile(t, third))
	foreign := grant(netpolicy.Spec{CIDRAllowlist: entries("198.51.100.0/24")}, 7)
	r.Stands(standing.Standing{Grant: &foreign}, "b")
	want := []Written{{Spec: netpolicy.Spec{CIDRAllowlist: entries("198.51.100.0/24")}, Sum: foreign.Policy.Sum(), Generation: 7}}
	if diff := cmp.Diff(want, r.Policies); diff != "" {
		t.Errorf("policies (-want +got):\n%s", diff)
	}
	r.Stands(standing.Standing{}, "b")
	if len(r.Policies) != 0 {
		t.Errorf("nothing stands: %+v", r.Policies)
	}
}
