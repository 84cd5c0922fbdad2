package netpolicy

import (
	"errors"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"brig/internal/sandbox"
)

func list(entries ...string) *[]string {
	entries = append([]string{}, entries...)
	return &entries
}

func TestTheZeroPolicyAdmitsNothing(t *testing.T) {
	var p Policy
	if !p.Blocked() || p.DNS() != DNSOff || p.Verdict(Packet{netip.MustParseAddr("8.8.8.8")}) || p.AdmitsInbound(netip.MustParseAddr("8.8.8.8")) {
		t.Errorf("%v", p)
	}
}

// TestCompile is the table of the product's semantics: what is written, what it
// means, or the exact error.
func TestCompile(t *testing.T) {
	private := Ceiling{AllowPrivate: []netip.Prefix{netip.MustParsePrefix("10.20.0.0/16")}}
	for _, tc := range []struct {
		name    string
		spec    Spec
		ceiling Ceiling
		want    string // canonical form
		err     string
	}{
		{name: "nothing said", want: `{"egress":"open"}`},
		{name: "block_network", spec: Spec{BlockNetwork: true}, want: `{"egress":""}`},
		{name: "block_network with an allowlist", spec: Spec{BlockNetwork: true, CIDRAllowlist: list()},
			err: "cidr_allowlist cannot be used when block_network is enabled"},
		{name: "block_network with names", spec: Spec{BlockNetwork: true, DomainAllowlist: list("example.com")},
			err: "domain_allowlist cannot be used when block_network is enabled"},
		{name: "block_network with inbound", spec: Spec{BlockNetwork: true, InboundCIDRAllowlist: list()},
			err: "inbound_cidr_allowlist cannot be used when block_network is enabled"},
		{name: "empty list", spec: Spec{CIDRAllowlist: list()}, want: `{"egress":"list"}`},
		{name: "list", spec: Spec{CIDRAllowlist: list("203.0.113.0/24", "8.8.8.8/32")},
			want: `{"egress":"list","ranges":["8.8.8.8-8.8.8.8","203.0.113.0-203.0.113.255"]}`},
		{name: "adjacent, overlapping, duplicate", spec: Spec{CIDRAllowlist: list("198.51.100.128/25", "198.51.100.0/25", "198.51.100.7/32", "198.51.100.0/25")},
			want: `{"egress":"list","ranges":["198.51.100.0-198.51.100.255"]}`},
		{name: "inbound", spec: Spec{InboundCIDRAllowlist: list("192.168.1.0/24")},
			want: `{"egress":"open","inbound":["192.168.1.0-192.168.1.255"]}`},
		{name: "malformed", spec: Spec{CIDRAllowlist: list("8.8.8.8/32", "not-an-ip/8")}, err: "Invalid CIDR: not-an-ip/8"},
		{name: "hostile", spec: Spec{CIDRAllowlist: list("a\nb")}, err: `Invalid CIDR: "a\nb"`},
		{name: "address", spec: Spec{CIDRAllowlist: list("8.8.8.8")}, err: "Invalid CIDR: 8.8.8.8; write 8.8.8.8/32"},
		{name: "host bits", spec: Spec{CIDRAllowlist: list("10.0.0.1/8")}, err: "Invalid CIDR: 10.0.0.1/8 has host bits set; write 10.0.0.0/8"},
		{name: "IPv6 where there is none", spec: Spec{CIDRAllowlist: list("2001:db8::/32")}, ceiling: Ceiling{NoIPv6: true}, err: "Invalid CIDR: 2001:db8::/32: sandboxes of this node have no IPv6"},
		{name: "both families", spec: Spec{CIDRAllowlist: list("2001:db8::/32", "8.8.8.8/32", "2001:db9::/32")},
			want: `{"egress":"list","ranges":["8.8.8.8-8.8.8.8","2001:db8::-2001:db9:ffff:ffff:ffff:ffff:ffff:ffff"]}`},
		{name: "mapped", spec: Spec{CIDRAllowlist: list("::ffff:8.8.8.0/120")}, err: "Invalid CIDR: ::ffff:8.8.8.0/120; write the IPv4 range"},
		{name: "IPv6 address", spec: Spec{CIDRAllowlist: list("2001:db8::1")}, err: "Invalid CIDR: 2001:db8::1; write 2001:db8::1/128"},
		{name: "IPv6 metadata", spec: Spec{CIDRAllowlist: list("fd00:ec2::254/128")}, err: "fd00:ec2::254/128 is a private, link-local or reserved range; only the operator can permit it (allow_private in the node's configuration)"},
		{name: "all of IPv6", spec: Spec{CIDRAllowlist: list("::/0")},
			want: `{"egress":"list","ranges":["2000::-2000:ffff:ffff:ffff:ffff:ffff:ffff:ffff","2001:200::-2001:ffff:ffff:ffff:ffff:ffff:ffff:ffff","2003::-3fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"]}`},
		{name: "private", spec: Spec{CIDRAllowlist: list("10.20.0.0/24")}, err: "10.20.0.0/24 is a private, link-local or reserved range; only the operator can permit it (allow_private in the node's configuration)"},
		{name: "metadata", spec: Spec{CIDRAllowlist: list("169.254.169.254/32")}, err: "169.254.169.254/32 is a private, link-local or reserved range; only the operator can permit it (allow_private in the node's configuration)"},
		{name: "private, permitted", spec: Spec{CIDRAllowlist: list("10.20.0.0/24")}, ceiling: private,
			want: `{"egress":"list","ranges":["10.20.0.0-10.20.0.255"]}`},
		{name: "private, wider than permitted", spec: Spec{CIDRAllowlist: list("10.0.0.0/8")}, ceiling: private,
			err: "10.0.0.0/8 is a private, link-local or reserved range; only the operator can permit it (allow_private in the node's configuration)"},
		{name: "wide list without the never-list", spec: Spec{CIDRAllowlist: list("8.0.0.0/6")}, ceiling: private,
			want: `{"egress":"list","ranges":["8.0.0.0-9.255.255.255","11.0.0.0-11.255.255.255"]}`},
		{name: "names", spec: Spec{DomainAllowlist: list("b.example.com", "*.Example.com", "a.example.com:8443", "b.example.com:443")},
			want: `{"egress":"list","names":["*.example.com","a.example.com:8443","b.example.com"]}`},
		{name: "names and ranges", spec: Spec{DomainAllowlist: list("example.com"), CIDRAllowlist: list("8.8.8.8/32")},
			want: `{"egress":"list","ranges":["8.8.8.8-8.8.8.8"],"names":["example.com"]}`},
		{name: "no names", spec: Spec{DomainAllowlist: list()}, want: `{"egress":"list"}`},
		{name: "an address for a name", spec: Spec{DomainAllowlist: list("8.8.8.8")}, err: "Invalid domain: 8.8.8.8 is an address: name it in cidr_allowlist"},
		{name: "an address and port", spec: Spec{DomainAllowlist: list("8.8.8.8:443")}, err: "Invalid domain: 8.8.8.8:443 is an address: name it in cidr_allowlist"},
		{name: "an IPv6 address for a name", spec: Spec{DomainAllowlist: list("2001:db8::1")}, err: "Invalid domain: 2001:db8::1 is an address: name it in cidr_allowlist"},
		{name: "a final dot", spec: Spec{DomainAllowlist: list("example.com.")}, err: "Invalid domain: example.com.; write it without the final dot"},
		{name: "everything", spec: Spec{DomainAllowlist: list("*")}, err: "Invalid domain: *: a star stands for the first labels alone, as in *.example.com"},
		{name: "a star inside", spec: Spec{DomainAllowlist: list("a.*.com")}, err: "Invalid domain: a.*.com: a star stands for the first labels alone, as in *.example.com"},
		{name: "a top-level domain", spec: Spec{DomainAllowlist: list("*.com")}, err: "Invalid domain: *.com: want a name with a dot, as example.com"},
		{name: "a hostile name", spec: Spec{DomainAllowlist: list("a\n.com")}, err: `Invalid domain: "a\n.com"`},
		{name: "beyond ASCII", spec: Spec{DomainAllowlist: list("bücher.example")}, err: "Invalid domain: bücher.example"},
		{name: "port 0", spec: Spec{DomainAllowlist: list("example.com:0")}, err: "Invalid domain: example.com:0: want NAME or NAME:PORT"},
		{name: "names with dns", spec: Spec{DomainAllowlist: list(), DNS: "resolver"}, err: "dns cannot be chosen with domain_allowlist, whose names the resolver answers for: leave dns out"},
		{name: "list with dns", spec: Spec{CIDRAllowlist: list(), DNS: "resolver"}, want: `{"egress":"list","dns":"resolver"}`},
		{name: "open without dns", spec: Spec{DNS: "off"}, want: `{"egress":"open","dns":"off"}`},
		{name: "unknown dns", spec: Spec{DNS: "on"}, err: "dns is on; want off or resolver, or nothing"},
		{name: "block with dns", spec: Spec{BlockNetwork: true, DNS: "resolver"}, err: "dns cannot be used when block_network is enabled"},
		{name: "the node's default", ceiling: Ceiling{Default: &Spec{CIDRAllowlist: list("8.8.8.8/32")}}, want: `{"egress":"list","ranges":["8.8.8.8-8.8.8.8"]}`},
		{name: "the node's default, with inbound", spec: Spec{InboundCIDRAllowlist: list()}, ceiling: Ceiling{Default: &Spec{CIDRAllowlist: list()}}, want: `{"egress":"list","inbound":[]}`},
		{name: "something said", spec: Spec{CIDRAllowlist: list("1.1.1.1/32")}, ceiling: Ceiling{Default: &Spec{BlockNetwork: true}}, want: `{"egress":"list","ranges":["1.1.1.1-1.1.1.1"]}`},
		{name: "wider than the ceiling", ceiling: Ceiling{Max: new(Policy)}, err: "a network is more than this node permits (no network): ask for less, or the operator for more (network.ceiling in the node's configuration)"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p, err := Compile(tc.spec, tc.ceiling)
			if tc.err != "" {
				var typed *Error
				if !errors.As(err, &typed) || err.Error() != tc.err {
					t.Fatalf("error  %v\nwanted %s", err, tc.err)
				}
				if !p.Blocked() {
					t.Error("an error came with an open policy")
				}
				return
			}
			if err != nil || string(p.Canonical()) != tc.want {
				t.Fatalf("got    %s, %v\nwanted %s", p.Canonical(), err, tc.want)
			}
		})
	}
}

func TestTooManyEntries(t *testing.T) {
	entries := make([]string, MaxEntries+1)
	if _, err := Compile(Spec{CIDRAllowlist: &entries}, Ceiling{}); err == nil || !strings.Contains(err.Error(), "at most 100000") {
		t.Errorf("error %v", err)
	}
}

// TestEverywhere is 0.0.0.0/0: exactly the complement of the never-list.
func TestEverywhere(t *testing.T) {
	p, err := Compile(Spec{CIDRAllowlist: list("0.0.0.0/0")}, Ceiling{})
	if err != nil {
		t.Fatal(err)
	}
	both, _ := Split(Normalise(append(p.Ranges(), Never()...)))
	if len(both) != 1 || both[0].String() != "0.0.0.0-255.255.255.255" {
		t.Errorf("ranges and never-list make %v", both)
	}
	for _, s := range []string{"9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "223.255.255.255", "1.0.0.0", "168.63.129.15"} {
		if !p.Verdict(Packet{netip.MustParseAddr(s)}) || !Open().Verdict(Packet{netip.MustParseAddr(s)}) {
			t.Errorf("%s is refused", s)
		}
	}
	for _, s := range []string{"0.0.0.0", "0.255.255.255", "10.0.0.0", "10.255.255.255", "100.64.0.0", "127.0.0.1", "169.254.169.254", "172.31.255.255",
		"192.168.0.1", "198.19.255.255", "224.0.0.1", "255.255.255.255", "168.63.129.16", "::1", "fd00:ec2::254", "fe80::1", "64:ff9b::808:808", "2002:808:808::1", "2001::1", "ff02::1", "::ffff:8.8.8.8", "2001:db8::1%eth0"} {
		if p.Verdict(Packet{netip.MustParseAddr(s)}) || Open().Verdict(Packet{netip.MustParseAddr(s)}) {
			t.Errorf("%s is admitted", s)
		}
	}
}

func TestVerdictAtTheEdges(t *testing.T) {
	p, err := Compile(Spec{CIDRAllowlist: list("203.0.113.64/26", "255.0.0.0/32", "1.2.3.4/32")}, Ceiling{AllowPrivate: []netip.Prefix{netip.MustParsePrefix("255.0.0.0/8")}})
	if err != nil {
		t.Fatal(err)
	}
	for s, want := range map[string]bool{
		"203.0.113.63": false, "203.0.113.64": true, "203.0.113.127": true, "203.0.113.128": false,
		"1.2.3.3": false, "1.2.3.4": true, "1.2.3.5": false, "255.0.0.0": true, "255.0.0.1": false, "255.255.255.255": false,
	} {
		if got := p.Verdict(Packet{netip.MustParseAddr(s)}); got != want {
			t.Errorf("%s: %t", s, got)
		}
	}
}

func TestAdmitsInbound(t *testing.T) {
	p, err := Compile(Spec{InboundCIDRAllowlist: list("127.0.0.0/8")}, Ceiling{})
	if err != nil {
		t.Fatal(err)
	}
	for s, want := range map[string]bool{"127.0.0.1": true, "::ffff:127.0.0.1": true, "192.0.2.1": false, "::1": false} {
		if got := p.AdmitsInbound(netip.MustParseAddr(s)); got != want {
			t.Errorf("%s: %t", s, got)
		}
	}
	if !Open().AdmitsInbound(netip.MustParseAddr("::1")) {
		t.Error("without a list a source is refused")
	}
}

func TestHashIsOfWhatTheKernelEnforces(t *testing.T) {
	compile := func(s Spec) string {
		p, err := Compile(s, Ceiling{})
		if err != nil {
			t.Fatal(err)
		}
		return p.Hash()
	}
	a := compile(Spec{CIDRAllowlist: list("8.8.8.0/25", "8.8.8.128/25")})
	if b := compile(Spec{CIDRAllowlist: list("8.8.8.0/24"), InboundCIDRAllowlist: list()}); a != b {
		t.Error("the same ranges have two hashes")
	}
	for _, other := range []Spec{{}, {CIDRAllowlist: list()}, {CIDRAllowlist: list("8.8.8.0/25")}, {BlockNetwork: true}} {
		if compile(other) == a {
			t.Errorf("%+v has the hash of something else", other)
		}
	}
}

// TestSumsAreFoundOnce, whichever way a policy with a list was made: of a long one they
// take longer than all else.
func TestSumsAreFoundOnce(t *testing.T) {
	p, err := Compile(Spec{CIDRAllowlist: list("8.8.8.8/32")}, Ceiling{})
	if err != nil {
		t.Fatal(err)
	}
	within, err := Compile(Spec{DomainAllowlist: list("example.com")}, Ceiling{Max: &Policy{egress: egressOpen}})
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := ParseCanonical(p.Canonical())
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range []Policy{p, within, parsed} {
		plain := p
		plain.digest = nil
		if p.digest == nil || p.Sum() != plain.Sum() || p.Hash() != plain.Hash() || p.NamesPrivate() != plain.NamesPrivate() {
			t.Errorf("%s: digest %+v", p, p.digest)
		}
	}
}

func TestAnnotations(t *testing.T) {
	for _, s := range []Spec{
		{}, {BlockNetwork: true}, {CIDRAllowlist: list()}, {CIDRAllowlist: list("8.8.8.8/32", "1.1.1.0/24")},
		{DomainAllowlist: list("example.com"), InboundCIDRAllowlist: list("10.0.0.0/8")}, {DNS: "off"},
	} {
		annotations := s.Annotations()
		annotations["io.kubernetes.cri.sandbox-id"] = "not ours"
		got, found, err := SpecFromAnnotations(annotations)
		if err != nil || found != (len(annotations) > 1) || !reflect.DeepEqual(got, s) {
			t.Errorf("%v came back as %+v, %t, %v", annotations, got, found, err)
		}
	}
	for annotation, want := range map[string]string{
		"brig/block-networks":          "unknown annotation brig/block-networks",
		sandbox.AnnotationBlockNetwork: `annotation brig/block-network is yes; want true or false`,
	} {
		if _, _, err := SpecFromAnnotations(map[string]string{annotation: "yes"}); err == nil || err.Error() != want {
			t.Errorf("%s: error %v, want %s", annotation, err, want)
		}
	}
	if s, found, err := SpecFromAnnotations(map[string]string{sandbox.AnnotationBlockNetwork: "false"}); err != nil || !found || s.BlockNetwork {
		t.Errorf("false: %+v %t %v", s, found, err)
	}
}

func TestParseCanonicalRefuses(t *testing.T) {
	for _, s := range []string{
		``, `null`, `{}`, `{"egress":"closed"}`, `{"egress":"open","ranges":["1.1.1.1-1.1.1.1"]}`, `{"egress":"open","dns":true}`,
		`{"egress":"list","ranges":["1.1.1.1"]}`, `{"egress":"list","ranges":["1.1.1.2-1.1.1.1"]}`, `{"egress":"list","ranges":["2.2.2.2-2.2.2.2","1.1.1.1-1.1.1.1"]}`,
		`{"egress":"list","ranges":["1.1.1.1-1.1.1.1","1.1.1.2-1.1.1.2"]}`, `{"egress": "open"}`, `{"egress":"open"} `, `{"egress":"list","ranges":["::2-::1"]}`, `{"egress":"list","ranges":["1.1.1.1-::2"]}`, `{"egress":"list","ranges":["::ffff:1.1.1.1-::ffff:1.1.1.1"]}`,
		`{"egress":"open","names":["example.com"]}`, `{"egress":"list","names":["b.com","a.com"]}`, `{"egress":"list","names":["A.com"]}`, `{"egress":"open","dns":"on"}`,
	} {
		if p, err := ParseCanonical([]byte(s)); err == nil {
			t.Errorf("%s accepted as %v", s, p)
		}
	}
}

func FuzzCompile(f *testing.F) {
	for _, s := range []string{"203.0.113.0/24", "10.0.0.1/8", "0.0.0.0/0", "1.1.1.1/33", "::ffff:1.2.3.4/120", "1.2.3.4%eth0/32", "010.0.0.0/8"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, entry string) {
		p, err := Compile(Spec{CIDRAllowlist: &[]string{entry}}, Ceiling{})
		if err != nil {
			if strings.ContainsAny(err.Error(), "\n\r") || !p.Blocked() {
				t.Errorf("%q: %v, %v", entry, p, err)
			}
			return
		}
		for _, r := range p.Ranges() {
			if contains(never, r.From) || contains(never, r.To) {
				t.Errorf("%q admits %v", entry, r)
			}
		}
		back, err := ParseCanonical(p.Canonical())
		if err != nil || string(back.Canonical()) != string(p.Canonical()) {
			t.Errorf("%q: canonical form %s does not come back: %v", entry, p.Canonical(), err)
		}
	})
}

func FuzzParseCanonical(f *testing.F) {
	f.Add([]byte(`{"egress":"list","ranges":["8.8.8.8-8.8.8.8"],"inbound":[]}`))
	f.Add([]byte(`{"egress":"open"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if p, err := ParseCanonical(data); err == nil && string(p.Canonical()) != string(data) {
			t.Errorf("%s accepted as %s", data, p.Canonical())
		}
	})
}
