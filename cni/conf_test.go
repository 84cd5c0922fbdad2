package cni

import (
	"net/netip"
	"strings"
	"testing"

	types100 "github.com/containernetworking/cni/pkg/types/100"

	"brig/internal/config"
	"brig/internal/netpolicy"
)

func TestParseAdd(t *testing.T) {
	for _, tc := range []struct{ name, in, want string }{
		{"plain", `{"cniVersion":"1.1.0","name":"brig","type":"brig-cni","config":"/c"}`, ""},
		{"what libcni adds", `{"name":"brig","capabilities":{"brig.network-policy":true},"runtimeConfig":{"brig.network-policy":"{}"},"cni.dev/valid-attachments":[]}`, ""},
		{"no ports", `{"runtimeConfig":{"portMappings":[]}}`, ""},
		{"ports", `{"runtimeConfig":{"portMappings":[{"hostPort":80}]}}`, "brig tunnel"},
		{"addresses", `{"runtimeConfig":{"ips":["10.0.0.1/24"]}}`, `capability "ips"`},
		{"chained", `{"prevResult":{"cniVersion":"1.1.0"}}`, "cannot be chained"},
		{"not chained", `{"prevResult":null}`, ""},
		{"an IPAM plugin", `{"ipam":{"type":"host-local"}}`, ""},
		{"unknown key", `{"bridge":"cni0"}`, `unknown field "bridge"`},
		{"not JSON", `{`, "parse the network configuration"},
	} {
		_, err := parseAdd([]byte(tc.in))
		if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
			t.Errorf("%s: error %v, want one that contains %q", tc.name, err, tc.want)
		}
	}
}

// A list that was edited since must not keep a DEL from freeing what it made.
func TestParseIsLenient(t *testing.T) {
	c, err := parse([]byte(`{"name":"brig","config":"/c","bridge":"cni0","prevResult":{},"runtimeConfig":{"portMappings":[{}]}}`))
	if err != nil || c.Name != "brig" || c.Config != "/c" {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestPolicy(t *testing.T) {
	list := []string{"203.0.113.0/24"}
	want, err := netpolicy.Compile(netpolicy.Spec{CIDRAllowlist: &list}, netpolicy.Ceiling{})
	if err != nil {
		t.Fatal(err)
	}
	for name, in := range map[string]string{
		"text":   `{"runtimeConfig":{"brig.network-policy":"{\"egress\":\"list\",\"ranges\":[\"203.0.113.0-203.0.113.255\"]}"}}`,
		"object": `{"runtimeConfig":{"brig.network-policy":{"egress":"list","ranges":["203.0.113.0-203.0.113.255"]}}}`,
	} {
		c, err := parseAdd([]byte(in))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := c.policy(); err != nil || got == nil || got.Hash() != want.Hash() {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	if got, err := (conf{}).policy(); got != nil || err != nil {
		t.Errorf("no policy: %v, %v", got, err)
	}
}

func TestCheckCeiling(t *testing.T) {
	cfg := &config.Config{Network: config.Network{AllowPrivate: []string{"10.20.0.0/16", "10.21.0.0/16"}}}
	for _, tc := range []struct {
		ranges string
		ok     bool
	}{
		{"203.0.113.0/24", true}, {"10.20.0.0/16", true}, {"10.20.255.0/24,10.21.0.0/24", true}, {"10.22.0.0/24", false}, {"192.168.0.0/24", false},
	} {
		list := strings.Split(tc.ranges, ",")
		// The caller's own ceiling was wider than this node's.
		p, err := netpolicy.Compile(netpolicy.Spec{CIDRAllowlist: &list}, netpolicy.Ceiling{AllowPrivate: []netip.Prefix{
			netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("192.168.0.0/16"),
		}})
		if err != nil {
			t.Fatal(err)
		}
		if err := checkCeiling(p, cfg); (err == nil) != tc.ok {
			t.Errorf("%s: %v, want ok %t", tc.ranges, err, tc.ok)
		}
	}
}

func FuzzParseAdd(f *testing.F) {
	f.Add([]byte(`{"cniVersion":"1.1.0","name":"brig","type":"brig-cni","config":"/c","runtimeConfig":{"portMappings":[]}}`))
	f.Add([]byte(`{"runtimeConfig":{"brig.network-policy":{"egress":"open"}},"prevResult":null}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		c, err := parseAdd(in)
		if err != nil {
			return
		}
		if string(c.RuntimeConfig["portMappings"]) == `[{"hostPort":80}]` {
			t.Errorf("ports accepted: %s", in)
		}
		if p, err := c.policy(); err == nil && p != nil {
			if _, err := netpolicy.ParseCanonical(p.Canonical()); err != nil {
				t.Errorf("policy %s is not canonical: %v", p.Canonical(), err)
			}
		}
	})
}

func TestDelegate(t *testing.T) {
	for in, want := range map[string]string{
		`{}`: "none", `{"ipam":null}`: "none", `{"ipam":{"type":"host-local","subnet":"10.0.0.0/8"}}`: "host-local",
		`{"ipam":{}}`: "not a plugin's name", `{"ipam":{"type":"../x"}}`: "not a plugin's name", `{"ipam":{"type":".."}}`: "not a plugin's name",
		`{"ipam":"host-local"}`: "ipam of the network configuration", `{"ipam":{"type":7}}`: "ipam of the network configuration",
	} {
		c, err := parseAdd([]byte(in))
		if err != nil {
			t.Fatal(err)
		}
		got := "none"
		d, err := c.delegate([]byte(in))
		if err != nil {
			got = err.Error()
		} else if d != nil {
			got = d.Type
		}
		if !strings.Contains(got, want) {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
}

// What an IPAM plugin may pick: one IPv4 address, at most one IPv6, and nothing that a
// sandbox would not get anyhow.
func TestPick(t *testing.T) {
	for _, tc := range []struct{ name, result, want string }{
		{"one", `{"ips":[{"address":"10.88.0.9/16","gateway":"10.88.0.1"}]}`, "10.88.0.9"},
		{"both families", `{"ips":[{"address":"fd00::9/64"},{"address":"10.88.0.9/16"}],"routes":[{"dst":"0.0.0.0/0"},{"dst":"::/0"}]}`, "10.88.0.9 fd00::9"},
		{"none", `{}`, "no IPv4 address"},
		{"IPv6 alone", `{"ips":[{"address":"fd00::9/64"}]}`, "no IPv4 address"},
		{"two", `{"ips":[{"address":"10.88.0.9/16"},{"address":"10.88.0.10/16"}]}`, "2 addresses"},
		{"a route", `{"ips":[{"address":"10.88.0.9/16"}],"routes":[{"dst":"192.0.2.0/24"}]}`, "route to 192.0.2.0/24"},
		{"a resolver", `{"ips":[{"address":"10.88.0.9/16"}],"dns":{"nameservers":["192.0.2.1"]}}`, "DNS settings"},
	} {
		result, err := types100.NewResult([]byte(strings.Replace(tc.result, "{", `{"cniVersion":"1.1.0",`, 1)))
		if strings.HasPrefix(tc.result, "{}") {
			result, err = types100.NewResult([]byte(`{"cniVersion":"1.1.0"}`))
		}
		if err != nil {
			t.Fatal(err)
		}
		a, a6, err := pick(result)
		got := a.String()
		if a6.IsValid() {
			got += " " + a6.String()
		}
		if err != nil {
			got = err.Error()
		}
		if !strings.Contains(got, tc.want) {
			t.Errorf("%s: %s, want %s", tc.name, got, tc.want)
		}
	}
}
