package e2e

import (
	"os/exec"
	"regexp"
	"testing"

	"brig/internal/require"
	"brig/tests/image/oci"
	"brig/tests/node"
)

// TestDemo runs what `make demo` runs.
func TestDemo(t *testing.T) {
	require.Runsc(t)
	root, err := oci.Root()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "go", "run", "./tests/demo")
	cmd.Dir = root
	r := node.Run(t, cmd)
	if r.Code != 0 || !regexp.MustCompile(`\ndemo: [1-9][0-9]* passed, 0 failed\n$`).MatchString(r.Stdout) {
		t.Errorf("status %d\n%s%s", r.Code, r.Stdout, r.Stderr)
	}
}
