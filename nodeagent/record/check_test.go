package record

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"

	"brig/internal/netpolicy"
)

var limits = Limits{Timeout: 5 * time.Minute, MaxTimeout: 24 * time.Hour}

func TestCheck(t *testing.T) {
	const image = "localhost:5000/python:3"
	list := func(cidrs ...string) *[]string { return &cidrs }
	for _, tc := range []struct {
		name string
		in   Request
		want string // the error; "" is none
	}{
		{"the least", Request{Image: image}, ""},
		{"the most", Request{
			RequestID: "r-1", Name: "web.1", Image: image + "@sha256:" + strings.Repeat("a", 64),
			Argv: []string{"sh", "-c", ""}, Env: map[string]string{"K": "a=b"}, Workdir: "/w", Tags: map[string]string{"k": ""},
			Resources: Resources{CPU: 0.01, MemoryMiB: 32}, Ports: []Port{{1, TLS}, {65535, TCP}}, Timeout: 24 * time.Hour,
			Network: netpolicy.Spec{CIDRAllowlist: list("203.0.113.0/24"), InboundCIDRAllowlist: list()},
		}, ""},
		{"request id", Request{Image: image, RequestID: "a b"}, `invalid request_id "a b": use at most 128 of [A-Za-z0-9_.-]`},
		{"name", Request{Image: image, Name: "-rf"}, `invalid name "-rf": it must not begin with a dash`},
		{"no image", Request{}, "image is missing: name one, such as localhost:5000/python:3"},
		{"image", Request{Image: "a b"}, `invalid image "a b": want [host[:port]/]name[:tag][@digest]`},
		{"argv with NUL", Request{Image: image, Argv: []string{"sh", "\x00"}}, "argv[1] contains a NUL byte"},
		{"argv of nothing", Request{Image: image, Argv: []string{""}}, "argv[0] is empty: name a program to run"},
		{"long argv", Request{Image: image, Argv: []string{"sh", strings.Repeat("x", MaxArgv)}}, "argv has 65540 bytes: at most 65536"},
		{"env name", Request{Image: image, Env: map[string]string{"A=B": ""}}, `invalid env name "A=B": it must not be empty nor contain '=' or NUL`},
		{"env value", Request{Image: image, Env: map[string]string{"A": "\x00"}}, "the value of env A contains a NUL byte"},
		{"workdir", Request{Image: image, Workdir: "w"}, `invalid workdir "w": want an absolute path`},
		{"tag", Request{Image: image, Tags: map[string]string{"": "v"}}, `invalid tag "": the name must not be empty, name and value have at most 256 bytes`},
		{"too little cpu", Request{Image: image, Resources: Resources{CPU: 0.009}}, "invalid resources.cpu 0.009: want at least 0.01 cores"},
		{"negative cpu", Request{Image: image, Resources: Resources{CPU: -1}}, "invalid resources.cpu -1: want at least 0.01 cores"},
		{"cpu that is none", Request{Image: image, Resources: Resources{CPU: math.NaN()}}, "invalid resources.cpu NaN: want at least 0.01 cores"},
		{"memory", Request{Image: image, Resources: Resources{MemoryMiB: 31}}, "invalid resources.memory_mib 31: want at least 32"},
		{"port 0", Request{Image: image, Ports: []Port{{0, TLS}}}, "invalid port 0: want 1 to 65535"},
		{"a port twice", Request{Image: image, Ports: []Port{{80, TLS}, {80, TCP}}}, "port 80 is asked for twice: one tunnel leads to a port"},
		{"long timeout", Request{Image: image, Timeout: 25 * time.Hour}, "invalid timeout 25h0m0s: at most 24h0m0s on this node (sandboxes.max_timeout)"},
		{"negative timeout", Request{Image: image, Timeout: -1}, "invalid timeout -1ns: want a positive duration"},
		{"ports without a network", Request{Image: image, Network: netpolicy.Spec{BlockNetwork: true}, Ports: []Port{{80, TLS}}},
			"Cannot specify open ports when block_network is enabled; use an empty cidr_allowlist"},
		{"a list without a network", Request{Image: image, Network: netpolicy.Spec{BlockNetwork: true, CIDRAllowlist: list()}},
			"cidr_allowlist cannot be used when block_network is enabled"},
		{"a size of no terminal", Request{Image: image, Argv: []string{"sh"}, Streams: Streams{Size: Size{80, 24}}}, "size is given without tty: only a terminal has one"},
		{"half a size", Request{Image: image, Argv: []string{"sh"}, Streams: Streams{TTY: true, Size: Size{Columns: 80}}}, "invalid size 80 x 0: give both, or none"},
		{"stdin of nothing", Request{Image: image, Streams: Streams{Stdin: true}}, "stdin and tty need argv: a sandbox that idles has no program that would use them"},
		{"malformed range", Request{Image: image, Network: netpolicy.Spec{CIDRAllowlist: list("not-an-ip/8")}}, "Invalid CIDR: not-an-ip/8"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := tc.in.Check(limits)
			got := ""
			if err != nil {
				got = err.Error()
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("error (-want +got):\n%s", diff)
			}
			if err != nil && !errdefs.IsInvalidArgument(err) {
				t.Errorf("%v is no ErrInvalidArgument", err)
			}
		})
	}
}

func TestCheckFillsInTheTimeout(t *testing.T) {
	r, err := Request{Image: "localhost/x"}.Check(limits)
	if err != nil || r.Timeout != limits.Timeout {
		t.Errorf("timeout %v, %v; want %v", r.Timeout, err, limits.Timeout)
	}
}

func TestDomains(t *testing.T) {
	if _, err := CompilePolicy(netpolicy.Spec{DomainAllowlist: &[]string{"*.com"}}, netpolicy.Ceiling{}); !errdefs.IsInvalidArgument(err) {
		t.Errorf("%v; want an ErrInvalidArgument", err)
	}
}

func TestExecNeedsArgv(t *testing.T) {
	if err := CheckArgv(nil, true); !errdefs.IsInvalidArgument(err) {
		t.Errorf("%v; want an ErrInvalidArgument", err)
	}
}

func TestDigest(t *testing.T) {
	digest := func(r Request) string {
		t.Helper()
		d, err := r.Digest()
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	empty := []string{}
	a := Request{Image: "x", Env: map[string]string{"A": "1", "B": "2"}}
	if digest(a) != digest(Request{Image: "x", Env: map[string]string{"B": "2", "A": "1"}}) {
		t.Error("equal requests have two digests")
	}
	if digest(Request{}) == digest(Request{Network: netpolicy.Spec{CIDRAllowlist: &empty}}) {
		t.Error("an absent list and an empty one have the same digest")
	}
}
