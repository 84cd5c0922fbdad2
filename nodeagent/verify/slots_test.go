package verify

import (
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"

	"brig/internal/sandbox"
	"brig/nodeagent/engine"
	"brig/nodeagent/network"
	"brig/nodeagent/record"
)

// TestSlots: one that waits holds a kernel, a network and nothing of a program; what is
// being made, taken or removed is not judged.
func TestSlots(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		waits := record.Slot{ID: id, Waiting: true, Address: netip.MustParseAddr("10.88.0.1")}
		n := &node{
			slots: []record.Slot{waits},
			ctd:   []engine.Held{{Kind: "container", Name: string(id)}, {Kind: "snapshot", Name: string(id)}},
			net:   []network.Held{{Kind: "lease", Name: "10.88.0.1 brgx", Owner: string(id)}},
		}
		got := run(t, n).Differences
		for _, want := range []string{"- task " + string(id), "- process sentry " + string(id), "- route " + string(id) + " 10.88.0.1", "+ snapshot " + string(id)} {
			if !slices.Contains(got, want) {
				t.Errorf("%q is missing in %q", want, got)
			}
		}
		for _, not := range []string{"- folder " + string(id), "+ container " + string(id), "+ lease " + string(id) + " 10.88.0.1"} {
			if slices.Contains(got, not) {
				t.Errorf("%q is in %q", not, got)
			}
		}
		for name, change := range map[string]func(look int){
			"being made": func(int) { n.slots[0].Waiting = false },
			"taken": func(look int) {
				if n.slots = nil; look%2 == 1 {
					n.slots = []record.Slot{waits}
				}
			},
			"removed": func(int) { n.slots, n.ctd, n.net = nil, nil, nil },
			"claimed": func(int) {
				n.slots, n.records = nil, []record.Record{{ID: id, State: sandbox.Creating}}
			},
		} {
			n.slots, n.looks, n.at = []record.Slot{waits}, 0, change
			if got := run(t, n).Differences; len(got) > 0 {
				t.Errorf("%s: %q", name, got)
			}
		}
	})
}
