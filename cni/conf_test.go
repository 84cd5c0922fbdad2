package cni

import (
	"net/netip"
	"strings"
	"testing"

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
		{"unknown key", `{"ipam":{"type":"host-local"}}`, `unknown field "ipam"`},
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
