package main

import (
	"os"
	"path/filepath"
	"testing"

	"brig/internal/require"
)

// TestPeerCanBeEdited fails when a new gVisor no longer holds the line that keeps its
// shim from starting.
func TestPeerCanBeEdited(t *testing.T) {
	require.Root(t)
	module, err := goOutput(t.Context(), "../../tools/runsc", "list", "-m", "-f", "{{.Dir}}", "gvisor.dev/gvisor")
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(module, peerEdited))
	if err != nil {
		t.Fatal(err)
	}
	copied := filepath.Join(t.TempDir(), "manager.go")
	if err := os.WriteFile(copied, data, 0o444); err != nil {
		t.Fatal(err)
	}
	if err := editPeer(copied); err != nil {
		t.Error(err)
	}
}

func TestDescends(t *testing.T) {
	parents := map[int]int{2: 1, 10: 2, 11: 10, 12: 2}
	for pid, want := range map[int]bool{10: true, 11: true, 12: true, 2: false, 1: false} {
		if got := descends(parents, pid, 2); got != want {
			t.Errorf("descends(%d) = %v", pid, got)
		}
	}
}

func TestFootprintOfOurselves(t *testing.T) {
	bytes, err := proportionalSize(os.Getpid())
	if err != nil || bytes < 1<<20 {
		t.Errorf("%d bytes, %v", bytes, err)
	}
}
