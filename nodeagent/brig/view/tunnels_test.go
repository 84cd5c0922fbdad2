package view

import (
	"strings"
	"testing"

	brigv1 "brig/nodeagent/api/brig/v1"
)

// TestTunnelRows: what does not work at present says so in its row.
func TestTunnelRows(t *testing.T) {
	var out strings.Builder
	if err := Table(&out, TunnelRows(OfTunnels([]*brigv1.Tunnel{
		{SandboxPort: 80, Url: "https://127.0.0.1:20000"},
		{SandboxPort: 8080, Url: "tcp://127.0.0.1:20001", Fault: "listen for a tunnel: address already in use"},
	}))); err != nil {
		t.Fatal(err)
	}
	want := "80    https://127.0.0.1:20000\n" +
		"8080  tcp://127.0.0.1:20001  not at present: listen for a tunnel: address already in use\n"
	if out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", &out, want)
	}
}
