package command_test

import (
	"regexp"
	"strings"
	"testing"

	brigv1 "brig/nodeagent/api/brig/v1"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/durationpb"
)

func TestPolicyGetAndSet(t *testing.T) {
	_, socket := node(t)
	check(t, brig(t, socket, "", "policy", "get", "web"), result{Out: "" +
		"generation  1\n" + "outbound    public addresses\n" + "inbound     tunnels from anywhere\n" + "refused     -\n"})
	check(t, brig(t, socket, "", "policy", "set", "--cidr-allow", "203.0.113.0/24", "--domain-allow", "*.example.com", "web"), result{Out: "2\n"})
	check(t, brig(t, socket, "", "policy", "set", "--if-generation", "1", "--open", "web"), result{Status: 1, Err: "brig: generation 2 is in force, not 1\n"})
	check(t, brig(t, socket, "", "policy", "set", "--no-egress", "--inbound-cidr", "192.0.2.0/24", "--dns", "resolver", "--for", "5m", "web"), result{Out: "3\n"})
	got := brig(t, socket, "", "policy", "get", "web")
	got.Out = regexp.MustCompile(`ends in \d+[smhd]`).ReplaceAllString(got.Out, "ends in 5m")
	check(t, got, result{Out: "" +
		"generation  3\n" + "outbound    nothing\n" + "dns         resolver\n" + "inbound     tunnels from 192.0.2.0/24\n" +
		"lease       ends in 5m, then generation 2:\n" +
		"  outbound  203.0.113.0/24, *.example.com\n" + "  inbound   tunnels from anywhere\n" + "refused     never 2, policy 7\n"})
	check(t, brig(t, socket, "", "policy", "get", "--json", "web"), result{Out: `{
  "generation": 3,
  "network": {
    "block_network": false,
    "cidr_allowlist": [],
    "domain_allowlist": null,
    "inbound_cidr_allowlist": [
      "192.0.2.0/24"
    ],
    "dns": "resolver"
  },
  "lease": {
    "until": "2030-01-02T03:04:05Z",
    "reverts_to": {
      "block_network": false,
      "cidr_allowlist": [
        "203.0.113.0/24"
      ],
      "domain_allowlist": [
        "*.example.com"
      ],
      "inbound_cidr_allowlist": null
    },
    "reverts_to_generation": 2
  },
  "bound": true,
  "denials": {
    "never": 2,
    "policy": 7
  }
}
`})
	check(t, brig(t, socket, "", "policy", "set", "--json", "--block-network", "--for", "1m", "web"), result{Out: "{\n  \"generation\": 4,\n  \"until\": \"2030-01-02T03:04:05Z\"\n}\n"})
	check(t, brig(t, socket, "", "policy", "set", "--json", "--open", "web"), result{Out: "{\n  \"generation\": 5\n}\n"})
	check(t, brig(t, socket, "", "policy", "get", "ghost"), result{Status: 1, Err: "brig: no sandbox \"ghost\"; brig ls shows them\n"})
}

func TestPolicySetSendsWhatWasSaid(t *testing.T) {
	n, socket := node(t)
	brig(t, socket, "", "policy", "set", "--open", "--inbound-cidr", "192.0.2.0/24", "--for", "90s", "--if-generation", "1", "web")
	brig(t, socket, "", "policy", "set", "--open", "web")
	want := []*brigv1.SetNetworkPolicyRequest{
		{Sandbox: "web", ExpectedGeneration: 1, Lease: durationpb.New(90e9),
			Network: &brigv1.NetworkPolicy{InboundCidrAllowlist: &brigv1.CidrList{Cidrs: []string{"192.0.2.0/24"}}}},
		{Sandbox: "web", Network: &brigv1.NetworkPolicy{}},
	}
	if diff := cmp.Diff(want, n.sets, protocmp.Transform()); diff != "" {
		t.Errorf("policy set sends (-want +got):\n%s", diff)
	}
}

func TestPolicyExplain(t *testing.T) {
	n, socket := node(t)
	check(t, brig(t, socket, "", "policy", "explain", "web", "203.0.113.7:443"), result{Out: "allow: entry 203.0.113.0/24 of cidr_allowlist (generation 1)\n"})
	check(t, brig(t, socket, "", "policy", "explain", "--protocol", "udp", "web", "[2001:db8::1]:53"), result{Status: 1, Out: "deny: default deny (generation 1)\n"})
	check(t, brig(t, socket, "", "policy", "explain", "--json", "web", "example.com"), result{Status: 3,
		Out: "{\n  \"verdict\": \"unknown\",\n  \"rule\": \"ask about the address\",\n  \"generation\": 1\n}\n"})
	check(t, brig(t, socket, "", "policy", "explain", "web", "2001:db8::1"), result{Status: 1, Out: "deny: default deny (generation 1)\n"})
	check(t, brig(t, socket, "", "policy", "explain", "ghost", "8.8.8.8"), result{Status: 125, Err: "brig: no sandbox \"ghost\"; brig ls shows them\n"})
	want := []*brigv1.ExplainNetworkRequest{
		{Sandbox: "web", Host: "203.0.113.7", Port: 443, Protocol: "tcp"}, {Sandbox: "web", Host: "2001:db8::1", Port: 53, Protocol: "udp"},
		{Sandbox: "web", Host: "example.com", Protocol: "tcp"}, {Sandbox: "web", Host: "2001:db8::1", Protocol: "tcp"},
	}
	if diff := cmp.Diff(want, n.asked, protocmp.Transform()); diff != "" {
		t.Errorf("policy explain sends (-want +got):\n%s", diff)
	}
}

func TestEvents(t *testing.T) {
	n, socket := node(t)
	event := func(e *brigv1.Event) *brigv1.Event { e.At, e.Sandbox = epoch, first; return e }
	n.events = []*brigv1.Event{
		event(&brigv1.Event{Kind: &brigv1.Event_Created{Created: &brigv1.SandboxCreated{Name: "web", Image: "img"}}}),
		event(&brigv1.Event{Kind: &brigv1.Event_PolicyChanged{PolicyChanged: &brigv1.PolicyChanged{Generation: 2}}}),
		event(&brigv1.Event{Kind: &brigv1.Event_PolicyChanged{PolicyChanged: &brigv1.PolicyChanged{Generation: 3, Until: epoch}}}),
		event(&brigv1.Event{Kind: &brigv1.Event_PolicyChanged{PolicyChanged: &brigv1.PolicyChanged{Generation: 2, Reverted: true}}}),
		event(&brigv1.Event{Kind: &brigv1.Event_Denied{Denied: &brigv1.Denied{Reason: "policy", Protocol: "tcp", Source: "10.88.0.2", SourcePort: 40000,
			Destination: "203.0.113.9", DestinationPort: 443, Name: "web.example.com", Generation: 2, Count: 4, Link: "brg0"}}}),
		event(&brigv1.Event{Kind: &brigv1.Event_Denied{Denied: &brigv1.Denied{Reason: "dns", Name: "evil.example.net", Generation: 2, Count: 1}}}),
		event(&brigv1.Event{Kind: &brigv1.Event_Denied{Denied: &brigv1.Denied{Reason: "never", Protocol: "icmp", Destination: "10.0.0.1", Generation: 2, Count: 1}}}),
		event(&brigv1.Event{Kind: &brigv1.Event_Exited{Exited: &brigv1.Exit{Code: 3, Reason: brigv1.Reason_REASON_EXITED, At: epoch}}}),
		{At: epoch, Kind: &brigv1.Event_Missed{Missed: &brigv1.EventsMissed{Count: 12}}},
		{At: epoch},
	}
	const begin = "2030-01-02T03:04:05Z " + first + " "
	check(t, brig(t, socket, "", "events", "web"), result{Out: begin + "created as web from img\n" +
		begin + "policy generation 2 is in force\n" + begin + "policy generation 3 is in force until 2030-01-02T03:04:05Z\n" +
		begin + "policy generation 2 is in force again\n" + begin + "denied tcp 203.0.113.9:443 web.example.com (policy, generation 2) x4\n" +
		begin + "denied evil.example.net (dns, generation 2)\n" + begin + "denied icmp 10.0.0.1 (never, generation 2)\n" +
		begin + "exited 3 (exited)\n" + "2030-01-02T03:04:05Z - 12 events came faster than they were read and are lost\n" + "2030-01-02T03:04:05Z - unknown\n"})
	lines := strings.Split(brig(t, socket, "", "events", "--json").Out, "\n")
	if len(lines) != len(n.events)+1 {
		t.Fatalf("%d lines", len(lines))
	}
	for i, want := range map[int]string{
		0: `{"at":"2030-01-02T03:04:05Z","kind":"created","sandbox":"` + first + `","created":{"name":"web","image":"img"}}`,
		3: `{"at":"2030-01-02T03:04:05Z","kind":"policy_changed","sandbox":"` + first + `","policy_changed":{"generation":2,"reverted":true}}`,
		4: `{"at":"2030-01-02T03:04:05Z","kind":"denied","sandbox":"` + first + `","denied":{"reason":"policy","protocol":"tcp","source":"10.88.0.2","source_port":40000,` +
			`"destination":"203.0.113.9","destination_port":443,"name":"web.example.com","generation":2,"count":4,"link":"brg0"}}`,
		8: `{"at":"2030-01-02T03:04:05Z","kind":"missed","missed":12}`,
	} {
		if lines[i] != want {
			t.Errorf("line %d: %s\nwant %s", i, lines[i], want)
		}
	}
	check(t, brig(t, socket, "", "events", "ghost"), result{Status: 1, Err: "brig: no sandbox \"ghost\"; brig ls shows them\n"})
}
