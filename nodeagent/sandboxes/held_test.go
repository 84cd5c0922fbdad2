package sandboxes_test

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"brig/internal/config"
	"brig/internal/netpolicy"
	"brig/internal/sandbox"
	"brig/nodeagent/pool"
	"brig/nodeagent/record"
	"brig/nodeagent/sandboxes/fake"
)

// startHeld is a brigd on whose node a checkpoint waits, loaded.
func startHeld(t *testing.T) (*node, *brigd, *pool.Pool) {
	t.Helper()
	n := newNode(t)
	n.runsc(t, fake.Build, "sse,avx")
	b, p := n.startPool(t, config.Pool{Size: 1, Max: 1})
	waits(t, p)
	rec := create(t, b, record.Request{Argv: []string{"serve"}, Env: map[string]string{"A": "1"}})
	if _, err := b.Checkpoint(t.Context(), rec, "warm", false); err != nil {
		t.Fatal(err)
	}
	for range 2 { // once more than what waited before
		restore(t, b, record.Request{})
	}
	eventually(t, func() bool { return slices.Contains(n.steps(t, b, record.Request{}), "claim") })
	waits(t, p)
	return n, b, p
}

func restore(t *testing.T, b *brigd, r record.Request) record.Record {
	t.Helper()
	r.Checkpoint = "warm"
	rec, err := b.Create(t.Context(), 1000, r)
	if err != nil {
		t.Fatal(err)
	}
	return rec
}

// steps of a restore.
func (n *node) steps(t *testing.T, b *brigd, r record.Request) []string {
	t.Helper()
	before := len(n.Log())
	return n.since(before, restore(t, b, r).ID)
}

func eventually(t *testing.T, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it does not come to that")
		}
	}
}

// What is the same but for what comes late takes what is held; the rest is restored cold.
func TestHeldIsTaken(t *testing.T) {
	n, b, p := startHeld(t)
	for name, r := range map[string]record.Request{
		"nothing else": {},
		"what comes late": {
			RequestID: "r", Tags: map[string]string{"k": "v"}, Timeout: time.Hour, IdleTimeout: time.Minute,
			Network: netpolicy.Spec{CIDRAllowlist: &[]string{"198.51.100.0/24"}},
		},
	} {
		waits(t, p)
		if diff := cmp.Diff([]string{"claim", "start"}, n.steps(t, b, r)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	for name, r := range map[string]record.Request{
		"a name":         {Name: "clone"},
		"no network":     {Network: netpolicy.Spec{BlockNetwork: true}},
		"another limit":  {Resources: record.Resources{MemoryMiB: 64}},
		"blocked output": {Streams: record.Streams{Block: true}},
	} {
		waits(t, p)
		if got := n.steps(t, b, r); !slices.Contains(got, "create") {
			t.Errorf("%s: %v", name, got)
		}
	}
	waits(t, p)
	rec := restore(t, b, record.Request{})
	if rec.Owner != 1000 || !rec.Address.IsValid() || rec.Request.Image != image || len(rec.Policies) != 1 {
		t.Errorf("record %+v", rec)
	}
	made := n.Made(string(rec.ID))
	if !made.Held || made.Waits || made.Restore != "" || made.Hostname != string(rec.ID) {
		t.Errorf("made of what was held: %+v", made)
	}
	hosts, err := os.ReadFile(n.cfg.JournalDir(string(rec.ID)) + "/hosts")
	if err != nil || !strings.Contains(string(hosts), rec.Address.String()+"\t"+string(rec.ID)) {
		t.Errorf("hosts: %q, %v", hosts, err)
	}
}

// With its checkpoint goes what is held of it, and nothing of it stays.
func TestHeldGoesWithItsCheckpoint(t *testing.T) {
	n, b, p := startHeld(t)
	held := slices.DeleteFunc(folders(t, n), func(id string) bool { _, err := b.Find(0, id); return err == nil })
	if len(held) != 1 {
		t.Fatalf("folders without a record: %v", held)
	}
	if err := b.RemoveCheckpoint(1000, "warm"); err != nil {
		t.Fatal(err)
	}
	waits(t, p) // one of the usual shape
	if slices.Contains(folders(t, n), held[0]) || slices.Contains(n.Left(), "task "+held[0]) {
		t.Errorf("%s is left", held[0])
	}
	all, err := b.List(0, nil, true)
	if err != nil {
		t.Fatal(err)
	}
	for _, rec := range all {
		if err := b.Remove(t.Context(), rec, true); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Drain(context.Background()); err != nil {
		t.Error(err)
	}
	mustBeEmpty(t, n)
	if left := folders(t, n); len(left) > 0 {
		t.Errorf("folders: %v", left)
	}
}

func folders(t *testing.T, n *node) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(n.cfg.JournalDir(""))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if _, err := sandbox.ParseID(e.Name()); err == nil {
			names = append(names, e.Name())
		}
	}
	return names
}

// A claim that fails costs time; a start that fails may have run something, and is told.
func TestHeldIsSpent(t *testing.T) {
	n, b, p := startHeld(t)
	n.failOnce("claim", errors.New("it is broken"))
	if got := n.steps(t, b, record.Request{}); !slices.Contains(got, "create") {
		t.Errorf("what was made in its place: %v", got)
	}
	waits(t, p)
	n.failOnce("start", errors.New("it is broken"))
	if _, err := b.Create(t.Context(), 1000, record.Request{Checkpoint: "warm"}); err == nil || !strings.Contains(err.Error(), "it is broken") {
		t.Errorf("%v", err)
	}
}

// The next brigd takes over what is held, if its checkpoint is there still.
func TestHeldOutlivesBrigd(t *testing.T) {
	for name, want := range map[string]string{"kept": "claim", "removed meanwhile": "create"} {
		t.Run(name, func(t *testing.T) {
			n, b, p := startHeld(t)
			p.Close()
			b.stop()
			dir := n.cfg.StateDir + "/checkpoints/1000/warm"
			if want == "create" {
				if err := os.Rename(dir, dir+"-not"); err != nil {
					t.Fatal(err)
				}
			}
			b, p = n.startPool(t, config.Pool{Size: 1, Max: 1})
			waits(t, p)
			if want == "create" {
				if err := os.Rename(dir+"-not", dir); err != nil {
					t.Fatal(err)
				}
			}
			if got := n.steps(t, b, record.Request{}); !slices.Contains(got, want) {
				t.Errorf("%v; want %s", got, want)
			}
			waits(t, p)
		})
	}
}
