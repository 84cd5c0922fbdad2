package peer

import (
	"os"
	"path/filepath"
	"testing"

	"brig/internal/require"
)

// TestCanBeEdited fails when a new gVisor no longer holds the line that keeps its shim
// from starting.
func TestCanBeEdited(t *testing.T) {
	require.Root(t)
	module, err := module(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(module, edited))
	if err != nil {
		t.Fatal(err)
	}
	copied := filepath.Join(t.TempDir(), "manager.go")
	if err := os.WriteFile(copied, data, 0o444); err != nil {
		t.Fatal(err)
	}
	if err := editFile(copied); err != nil {
		t.Error(err)
	}
}

func TestWrite(t *testing.T) {
	path := filepath.Join(t.TempDir(), "runsc.toml")
	if err := (Config{Runsc: "/r", Root: "/state", Flags: map[string]string{"b": "2", "a": "1"}}).Write(path); err != nil {
		t.Fatal(err)
	}
	const want = "binary_name = \"/r\"\nroot = \"/state\"\n[runsc_config]\na = \"1\"\nb = \"2\"\n"
	if got, err := os.ReadFile(path); err != nil || string(got) != want {
		t.Errorf("%q, %v; want %q", got, err, want)
	}
}
