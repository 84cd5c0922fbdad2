package netpolicy

import (
	"strings"
	"testing"
)

func TestNameMatches(t *testing.T) {
	for _, tc := range []struct {
		entry, host string
		want        bool
	}{
		{"example.com", "example.com", true},
		{"example.com", "EXAMPLE.com.", true},
		{"example.com", "www.example.com", false},
		{"example.com", "example.com.evil.net", false},
		{"*.example.com", "www.example.com", true},
		{"*.example.com", "a.b.example.com", true},
		{"*.example.com", "example.com", false},
		{"*.example.com", ".example.com", false},
		{"*.example.com", "evilexample.com", false},
		{"*.example.com", "", false},
	} {
		n, err := ParseName(tc.entry)
		if err != nil {
			t.Fatal(err)
		}
		if got := n.Matches(tc.host); got != tc.want {
			t.Errorf("%s, %q: %t", tc.entry, tc.host, got)
		}
	}
}

func TestAdmits(t *testing.T) {
	p, err := Compile(Spec{DomainAllowlist: list("example.com", "*.example.org:8443")}, Ceiling{})
	if err != nil {
		t.Fatal(err)
	}
	if !p.Admits("example.com", 443) || !p.Admits("a.example.org", 8443) || p.Admits("example.com", 8443) || p.Admits("a.example.org", 443) || p.DNS() != DNSNames {
		t.Errorf("%s, dns %s", p.Canonical(), p.DNS())
	}
}

func TestWithin(t *testing.T) {
	compile := func(s Spec) Policy {
		t.Helper()
		p, err := Compile(s, Ceiling{})
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	block, open, quiet := Policy{}, Open(), compile(Spec{DNS: "off"})
	wide, tight := compile(Spec{CIDRAllowlist: list("8.8.0.0/16")}), compile(Spec{CIDRAllowlist: list("8.8.8.0/24")})
	asking := compile(Spec{CIDRAllowlist: list("8.8.8.0/24"), DNS: "resolver"})
	names, wild := compile(Spec{DomainAllowlist: list("a.example.com")}), compile(Spec{DomainAllowlist: list("*.example.com")})
	local := compile(Spec{InboundCIDRAllowlist: list("127.0.0.0/8")})
	for _, tc := range []struct {
		name       string
		p, ceiling Policy
		want       bool
	}{
		{"block in block", block, block, true}, {"block in a list", block, tight, true}, {"a list in block", tight, block, false},
		{"open in open", open, open, true}, {"open in a list", open, wide, false}, {"a list in open", wide, open, true},
		{"a part", tight, wide, true}, {"the whole in a part", wide, tight, false},
		{"DNS where there is none", asking, wide, false}, {"DNS in open", asking, open, true}, {"DNS in open without", asking, quiet, false},
		{"open in open without DNS", open, quiet, false}, {"open without DNS in open", quiet, open, true},
		{"a name in its parent", names, wild, true}, {"the parent in a name", wild, names, false}, {"names in open", wild, open, true},
		{"names in open without DNS", wild, quiet, false}, {"names in a list", names, wide, false}, {"names in a list that asks", names, asking, false},
		{"any client in few", open, local, false}, {"few clients in any", local, open, true},
	} {
		if got := tc.p.Within(tc.ceiling); got != tc.want {
			t.Errorf("%s: %t", tc.name, got)
		}
	}
}

func FuzzParseName(f *testing.F) {
	for _, s := range []string{"example.com", "*.example.com:8443", "*.*.com", "a..b", "-a.com", "a.com:65536", "1.2.3.4", "[::1]:443"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, err := ParseName(s)
		if err != nil {
			if strings.ContainsAny(err.Error(), "\n\r") {
				t.Errorf("%q: %v", s, err)
			}
			return
		}
		if again, err := ParseName(n.String()); err != nil || again != n {
			t.Errorf("%q is %v, and that %v, %v", s, n, again, err)
		}
		if strings.HasPrefix(n.Pattern, "*") == n.Matches(strings.TrimPrefix(n.Pattern, "*.")) {
			t.Errorf("%q: a star and its own parent", s)
		}
	})
}
