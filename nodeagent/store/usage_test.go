package store

import (
	"path/filepath"
	"testing"
	"time"

	"brig/internal/sandbox"
	"brig/nodeagent/record"
)

// TestUsage: of those that live, at once; an ended one keeps its last.
func TestUsage(t *testing.T) {
	s := openAt(t, filepath.Join(t.TempDir(), "brig.db"))
	writes := 0
	s.Observe(func(time.Duration) {}, func(time.Duration) { writes++ })
	live, ended := fresh(1000, "live", ""), fresh(1000, "ended", "")
	add(t, s, live)
	add(t, s, ended)
	final := record.Usage{CPU: time.Second, TunnelIn: 1}
	if _, err := s.Update(ended.ID, func(r *record.Record) error { r.Usage = final; return end(r) }); err != nil {
		t.Fatal(err)
	}
	writes = 0
	sampled := record.Usage{CPU: time.Minute, MemoryMiBSeconds: 1.5, TunnelIn: 2, TunnelOut: 3}
	if err := s.SetUsage(map[sandbox.ID]record.Usage{live.ID: sampled, ended.ID: sampled, sandbox.NewID(): sampled}); err != nil {
		t.Fatal(err)
	}
	if writes != 1 {
		t.Errorf("%d transactions; want 1", writes)
	}
	for id, want := range map[sandbox.ID]record.Usage{live.ID: sampled, ended.ID: final} {
		if got, err := s.Get(id); err != nil || got.Usage != want {
			t.Errorf("%+v, %v; want %+v", got.Usage, err, want)
		}
	}
}
