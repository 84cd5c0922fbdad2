package server

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protojson"

	"brig/internal/netpolicy"
	"brig/internal/sandbox"
	brigv1 "brig/nodeagent/api/brig/v1"
	"brig/nodeagent/record"
)

func TestRequestOf(t *testing.T) {
	m := &brigv1.CreateRequest{}
	if err := protojson.Unmarshal([]byte(`{
		"requestId": "r", "name": "n", "image": "i", "argv": ["a"], "env": {"K": "V"}, "workdir": "/w", "tags": {"t": "v"},
		"resources": {"cpu": 0.5, "memoryMib": 64}, "timeout": "90s",
		"network": {"cidrAllowlist": {}, "inboundCidrAllowlist": {"cidrs": ["203.0.113.0/24"]}, "domainAllowlist": {"domains": ["example.com"]}, "dns": "off"},
		"ports": [{"sandboxPort": 80}, {"sandboxPort": 81, "kind": "TUNNEL_KIND_H2"}, {"sandboxPort": 82, "kind": "TUNNEL_KIND_TCP"}]
	}`), m); err != nil {
		t.Fatal(err)
	}
	got, err := requestOf(m)
	if err != nil {
		t.Fatal(err)
	}
	want := record.Request{
		RequestID: "r", Name: "n", Image: "i", Argv: []string{"a"}, Env: map[string]string{"K": "V"}, Workdir: "/w",
		Tags: map[string]string{"t": "v"}, Resources: record.Resources{CPU: .5, MemoryMiB: 64}, Timeout: 90 * time.Second,
		Network: netpolicy.Spec{CIDRAllowlist: &[]string{}, InboundCIDRAllowlist: &[]string{"203.0.113.0/24"}, DomainAllowlist: &[]string{"example.com"}, DNS: "off"},
		Ports:   []record.Port{{Sandbox: 80, Kind: record.TLS}, {Sandbox: 81, Kind: record.H2}, {Sandbox: 82, Kind: record.TCP}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("request (-want +got):\n%s", diff)
	}
}

func TestSandboxTo(t *testing.T) {
	at := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	got, err := jsonCodec{}.Marshal(serve(t).server.sandboxTo(record.Record{
		ID: "sb-x", Owner: 1000, State: sandbox.Exited, Exit: &record.Exit{Code: 124, Reason: sandbox.ReasonTimeout, At: at},
		CreatedAt: at, Deadline: record.Deadline{Wall: at}, Address: netip.MustParseAddr("10.88.0.1"),
		Request: record.Request{Name: "n", Image: "i", Network: netpolicy.Spec{CIDRAllowlist: &[]string{}}},
		Tunnels: []record.Tunnel{
			{Port: record.Port{Sandbox: 80, Kind: record.TLS}, Listen: 20000}, {Port: record.Port{Sandbox: 22, Kind: record.TCP}, Listen: 20001},
		},
	}))
	want := `{"id":"sb-x","name":"n","image":"i","state":"STATE_EXITED",` +
		`"exit":{"code":124,"reason":"REASON_TIMEOUT","at":"2030-01-02T03:04:05Z"},"ownerUid":1000,` +
		`"createdAt":"2030-01-02T03:04:05Z","deadline":"2030-01-02T03:04:05Z","address":"10.88.0.1",` +
		`"network":{"cidrAllowlist":{}},"resources":{},"tunnels":[` +
		`{"sandboxPort":80,"kind":"TUNNEL_KIND_TLS","host":"127.0.0.1","port":20000,"url":"https://127.0.0.1:20000"},` +
		`{"sandboxPort":22,"kind":"TUNNEL_KIND_TCP","host":"127.0.0.1","port":20001,"url":"tcp://127.0.0.1:20001"}],"policyGeneration":"1","usage":{},"removedAt":"2030-01-09T03:04:05Z"}`
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("message (-want +got):\n%s", diff)
	}
}

// Every state, reason and kind that a record can hold has a word on the wire.
func TestNothingIsUnspecified(t *testing.T) {
	for s, m := range states {
		if m == brigv1.State_STATE_UNSPECIFIED {
			t.Errorf("state %s", s)
		}
	}
	if got, want := len(reasons), len(brigv1.Reason_name)-1; got != want {
		t.Errorf("%d reasons have a word, the protocol has %d", got, want)
	}
	if got, want := len(verdicts), len(brigv1.Verdict_name)-1; got != want {
		t.Errorf("%d verdicts have a word, the protocol has %d", got, want)
	}
	if got, want := len(kindsOut), len(brigv1.TunnelKind_name)-1; got != want {
		t.Errorf("%d kinds have a word, the protocol has %d", got, want)
	}
}
