package verify

import (
	"context"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"brig/internal/config"
	"brig/internal/sandbox"
	"brig/nodeagent/engine"
	"brig/nodeagent/network"
	"brig/nodeagent/record"
)

// node answers as containerd and the network do, and each look may see another state.
type node struct {
	records []record.Record
	slots   []record.Slot
	looks   int
	// at changes what there is before a look.
	at  func(look int)
	ctd []engine.Held
	net []network.Held
	// saving: a sandbox is being saved.
	saving bool
}

func (n *node) Held(context.Context) ([]engine.Held, error) {
	n.looks++
	if n.at != nil {
		n.at(n.looks)
	}
	return n.ctd, nil
}

type nets struct{ *node }

func (n nets) Held(context.Context) ([]network.Held, error) { return n.net, nil }

func (n *node) parts(t *testing.T) Parts {
	t.Helper()
	cfg := config.Defaults()
	cfg.Node = "vtest" // nothing on the machine has its names
	cfg.StateDir, cfg.RunDir = t.TempDir(), t.TempDir()
	cfg.Containerd.Address = "/elsewhere/containerd.sock"
	for _, r := range n.records {
		if err := os.MkdirAll(cfg.JournalDir(string(r.ID)), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	return Parts{Config: &cfg, Records: func() ([]record.Record, error) { return n.records, nil }, Slots: func() ([]record.Slot, error) { return n.slots, nil }, Engine: n, Network: nets{n}, Saving: func() bool { return n.saving }, PID: os.Getpid()}
}

func run(t *testing.T, n *node) Result {
	t.Helper()
	p := n.parts(t)
	r, err := Run(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	for i := range r.Differences {
		r.Differences[i] = strings.ReplaceAll(r.Differences[i], filepath.Dir(p.Config.JournalDir("x")), "SANDBOXES")
	}
	return r
}

const id = sandbox.ID("sb-aaaaaaaaaaaaaaaa")

// TestDifferences: what is missing and what is too much, and nothing of others.
func TestDifferences(t *testing.T) {
	n := &node{
		records: []record.Record{{ID: id, State: sandbox.Running, Address: netip.MustParseAddr("10.88.0.1"), Tunnels: []record.Tunnel{{Listen: 1}}}},
		ctd: []engine.Held{
			{Kind: "container", Name: string(id)}, {Kind: "task", Name: string(id)}, {Kind: "snapshot", Name: string(id)},
			{Kind: "lease", Name: "a pull"}, {Kind: "container", Name: "somebody-elses"}, {Kind: "lease", Name: "sb-bbbbbbbbbbbbbbbb"},
		},
		net: []network.Held{
			{Kind: "link", Name: "brgx", Owner: string(id)}, {Kind: "lease", Name: "10.88.0.2 brgx", Owner: string(id)},
			{Kind: "conntrack", Name: "10.88.0.9"},
		},
	}
	want := []string{
		"- attachment " + string(id),
		"- cgroup " + string(id),
		"+ conntrack 10.88.0.9",
		"- identity " + string(id) + " 10.88.0.1",
		"+ lease of containerd sb-bbbbbbbbbbbbbbbb",
		"- lease " + string(id) + " 10.88.0.1",
		"+ lease " + string(id) + " 10.88.0.2 brgx",
		"- listener 127.0.0.1:1",
		"- netns " + string(id),
		"- policy " + string(id),
		"- process gofer " + string(id),
		"- process sentry " + string(id),
		"- process shim " + string(id),
		"- route " + string(id) + " 10.88.0.1",
		"- rules " + string(id),
		"- runsc " + string(id),
	}
	if diff := cmp.Diff(want, run(t, n).Differences); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

// TestMovingNode: what is there at one look and gone at the next is no difference; a
// sandbox that is being made is not judged, one that has ended is waited for.
func TestMovingNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &node{}
		n.at = func(look int) {
			n.ctd = nil
			if look%2 == 1 {
				n.ctd = []engine.Held{{Kind: "task", Name: string(id)}}
			}
		}
		if got := run(t, n); len(got.Differences) > 0 {
			t.Errorf("a task that comes and goes: %q", got.Differences)
		}
		n = &node{records: []record.Record{{ID: id, State: sandbox.Creating}}, ctd: []engine.Held{{Kind: "task", Name: string(id)}}}
		if got := run(t, n); len(got.Differences) > 0 || len(got.Census) > 0 {
			t.Errorf("a sandbox that is being made: %q", got)
		}
		ended := record.Record{ID: id, State: sandbox.Exited}
		n = &node{records: []record.Record{ended}, ctd: []engine.Held{{Kind: "task", Name: string(id)}}}
		n.at = func(look int) {
			if look == 10 { // 1.8 s later
				n.records[0].Clean, n.ctd = true, nil
			}
		}
		if got := run(t, n); len(got.Differences) > 0 || n.looks < 10 {
			t.Errorf("what ends is waited for: %q after %d looks", got.Differences, n.looks)
		}
		begun := time.Now()
		n = &node{records: []record.Record{ended}, ctd: []engine.Held{{Kind: "task", Name: string(id)}}}
		if got := run(t, n).Differences; len(got) != 1 || got[0] != "+ task "+string(id) {
			t.Errorf("what has ended and is never torn down: %q", got)
		}
		if took := time.Since(begun); took > 3*patience {
			t.Errorf("it took %v", took)
		}
	})
}

func TestParseAddress(t *testing.T) {
	for in, want := range map[string]string{
		"0100007F:1F90":                         "127.0.0.1:8080",
		"00000000000000000000000001000000:0050": "[::1]:80",
	} {
		got, err := parseAddress(in)
		if err != nil || got.String() != want {
			t.Errorf("%s is %v, %v; want %s", in, got, err, want)
		}
	}
	for _, bad := range []string{"", "xyz:1", "0100007F", "01:01"} {
		if got, err := parseAddress(bad); err == nil {
			t.Errorf("%q is %v", bad, got)
		}
	}
}
