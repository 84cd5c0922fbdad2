package execs_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/containerd/errdefs"

	"brig/internal/baddisk"
	"brig/nodeagent/execs"
)

// On a full disk programs run from memory, of which some is left for everybody else.
func TestTheLastOfMemory(t *testing.T) {
	w := newWorld(t)
	w.dir = baddisk.Small(t, "2m", "")
	memory := baddisk.Small(t, "16m", "")
	w.spare = filepath.Join(memory, "execs")
	m, _ := w.brigd(t)
	spec := func(id string) execs.Spec { return execs.Spec{ID: id, Keep: true, Argv: []string{"echo", id}} }
	first := start(t, m, w, spec("first"))
	exitOf(t, first)
	if err := os.WriteFile(filepath.Join(memory, "others"), make([]byte, 15<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Start(t.Context(), w.sandbox(), spec("second")); !errdefs.IsResourceExhausted(err) {
		t.Errorf("the last of the memory: %v; want an ErrResourceExhausted", err)
	}
	again := start(t, m, w, spec("first"))
	if got := text(t, again, execs.Offsets{}); got != "first\n|" {
		t.Errorf("what ran before: %q", got)
	}
	entries, err := os.ReadDir(filepath.Join(w.spare, string(w.id)))
	if err != nil || len(entries) != 1 {
		t.Errorf("%v, %v; want the first alone", entries, err)
	}
}
