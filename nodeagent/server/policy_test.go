package server

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"github.com/google/go-cmp/cmp"

	brigv1 "brig/nodeagent/api/brig/v1"
	"brig/nodeagent/api/brig/v1/brigv1connect"
)

func made(t *testing.T, s *served, body string) string {
	t.Helper()
	var made struct{ Sandbox struct{ ID string } }
	answer := s.post(t, "Sandboxes/Create", body)
	if err := json.Unmarshal([]byte(answer), &made); err != nil || made.Sandbox.ID == "" {
		t.Fatalf("create: %s, %v", answer, err)
	}
	return made.Sandbox.ID
}

func TestPolicyByCurl(t *testing.T) {
	s := serve(t)
	id := made(t, s, `{"image":"localhost/x","name":"web","network":{"domainAllowlist":{"domains":["*.example.com"]}}}`)
	for _, tc := range []struct{ method, body, want string }{
		{"GetNetworkPolicy", `{"sandbox":"web"}`, `{"network":{"domainAllowlist":{"domains":["*.example.com"]}},"generation":"1","bound":true}`},
		{"SetNetworkPolicy", `{"sandbox":"web","network":{"cidrAllowlist":{"cidrs":["203.0.113.0/24"]},"inboundCidrAllowlist":{},"dns":"resolver"},"expectedGeneration":"1"}`,
			`{"generation":"2"}`},
		{"GetNetworkPolicy", `{"sandbox":"web"}`,
			`{"network":{"cidrAllowlist":{"cidrs":["203.0.113.0/24"]},"inboundCidrAllowlist":{},"dns":"resolver"},"generation":"2","bound":true}`},
		{"ExplainNetwork", `{"sandbox":"web","host":"203.0.113.7","port":443}`, `{"verdict":"VERDICT_ALLOW","rule":"entry 203.0.113.0/24 of cidr_allowlist","generation":"2"}`},
		{"ExplainNetwork", `{"sandbox":"web","host":"10.0.0.1"}`, `{"verdict":"VERDICT_DENY","rule":"never-list 10.0.0.0/8","generation":"2"}`},
		{"ExplainNetwork", `{"sandbox":"web","host":"example.com"}`,
			`{"verdict":"VERDICT_UNKNOWN","rule":"the node's resolver answers, and cidr_allowlist decides about the address that it gives; ask about that","generation":"2"}`},
	} {
		if got := s.post(t, "Sandboxes/"+tc.method, tc.body); got != tc.want {
			t.Errorf("%s %s:\n got %s\nwant %s", tc.method, tc.body, got, tc.want)
		}
	}
	s.denials.Denied(s.node.Link(id), "dns", "evil.example.net", netip.AddrPort{})
	if got := s.post(t, "Sandboxes/GetNetworkPolicy", `{"sandbox":"web"}`); !strings.HasSuffix(got, `"bound":true,"denials":{"dns":"1"}}`) {
		t.Errorf("after a denial: %s", got)
	}
	leased := s.post(t, "Sandboxes/SetNetworkPolicy", `{"sandbox":"web","network":{"blockNetwork":true},"lease":"60s"}`)
	if !strings.HasPrefix(leased, `{"generation":"3","until":"20`) {
		t.Errorf("a lease: %s", leased)
	}
	got := s.post(t, "Sandboxes/GetNetworkPolicy", `{"sandbox":"web"}`)
	if !strings.HasPrefix(got, `{"network":{"blockNetwork":true},"generation":"3","lease":{"until":"20`) ||
		!strings.Contains(got, `"revertsTo":{"cidrAllowlist":{"cidrs":["203.0.113.0/24"]},"inboundCidrAllowlist":{},"dns":"resolver"},"revertsToGeneration":"2"}`) {
		t.Errorf("while it lasts: %s", got)
	}
	if got := s.post(t, "Sandboxes/Get", `{"sandbox":"web"}`); !strings.Contains(got, `"network":{"blockNetwork":true}`) || !strings.Contains(got, `"policyGeneration":"3"`) {
		t.Errorf("the sandbox: %s", got)
	}
	blocked := made(t, s, `{"image":"localhost/x","network":{"blockNetwork":true}}`)
	want := `{"code":"failed_precondition","message":"sandbox ` + blocked + ` was made with block_network and has no interface that could be opened: make a new one"}`
	if got := s.post(t, "Sandboxes/SetNetworkPolicy", `{"sandbox":"`+blocked+`","network":{}}`); got != want {
		t.Errorf("without a network: %s\nwant %s", got, want)
	}
}

func TestEventStream(t *testing.T) {
	s := serve(t)
	c := brigv1connect.NewSandboxesClient(s.h2, "http://brig")
	stream, err := c.Events(t.Context(), connect.NewRequest(&brigv1.EventsRequest{}))
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	if !stream.Receive() || stream.Msg().GetEvent() != nil {
		t.Fatalf("first message %v, %v; want one without an event", stream.Msg(), stream.Err())
	}
	id := made(t, s, `{"image":"localhost/x","name":"web"}`)
	s.post(t, "Sandboxes/SetNetworkPolicy", `{"sandbox":"web","network":{"cidrAllowlist":{}}}`)
	link := s.node.Link(id)
	s.denials.Names().Learn(link, netip.MustParseAddr("203.0.113.9"), "web.example.com")
	s.denials.Denied(link, "sni", "other.example.com", netip.MustParseAddrPort("203.0.113.9:443"))
	s.node.Exit(id, 3)
	var got []string
	for range 4 {
		if !stream.Receive() {
			t.Fatal(stream.Err())
		}
		e := stream.Msg().GetEvent()
		if e.GetSandbox() != id || e.GetAt() == nil {
			t.Errorf("event %v", e)
		}
		d := e.GetDenied()
		got = append(got, fmt.Sprintf("%T %s %d %s %s:%d %s", e.GetKind(), e.GetCreated().GetName(), e.GetPolicyChanged().GetGeneration(), d.GetName(), d.GetDestination(), d.GetDestinationPort(), e.GetExited().GetReason()))
	}
	want := []string{
		"*brigv1.Event_Created web 0  :0 REASON_UNSPECIFIED", "*brigv1.Event_PolicyChanged  2  :0 REASON_UNSPECIFIED",
		"*brigv1.Event_Denied  0 other.example.com 203.0.113.9:443 REASON_UNSPECIFIED", "*brigv1.Event_Exited  0  :0 REASON_EXITED",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	none, err := c.Events(t.Context(), connect.NewRequest(&brigv1.EventsRequest{Sandbox: "nobody"}))
	if err != nil {
		t.Fatal(err)
	}
	defer none.Close()
	if none.Receive() || connect.CodeOf(none.Err()) != connect.CodeNotFound {
		t.Errorf("of nobody: %v; want not_found", none.Err())
	}
}

func TestMetrics(t *testing.T) {
	s := serve(t)
	made(t, s, `{"image":"localhost/x","name":"web"}`)
	s.post(t, "Sandboxes/SetNetworkPolicy", `{"sandbox":"web","network":{}}`)
	s.post(t, "Sandboxes/SetNetworkPolicy", `{"sandbox":"web","network":{"dns":"x"}}`)
	r, err := s.h1.Get("http://brig/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	data, err := io.ReadAll(r.Body)
	if err != nil || r.StatusCode != http.StatusOK {
		t.Fatalf("%s, %v", r.Status, err)
	}
	for _, line := range []string{`brig_policy_changes_total{result="ok"} 1`, `brig_policy_changes_total{result="refused"} 1`, `brig_sandboxes_running 1`} {
		if !strings.Contains(string(data), "\n"+line+"\n") {
			t.Errorf("lacks the line %s", line)
		}
	}
}
