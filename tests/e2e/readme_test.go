package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"brig/tests/image/oci"
	"brig/tests/node"
)

// TestReadme runs the README's commands: every block fenced as ```sh run, in
// order, in one shell with the programs in its PATH, BRIG_SOCKET leading to the
// node and IMAGE naming an image with Python.
func TestReadme(t *testing.T) {
	t.Parallel()
	n := use(t)
	root, err := oci.Root()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	blocks := runnable(string(text))
	if len(blocks) == 0 {
		t.Fatal("the README has no ```sh run block")
	}
	script := "set -eu\n"
	for _, b := range blocks {
		script += b
	}
	cmd := exec.CommandContext(t.Context(), "bash", "-c", script)
	cmd.Env = append(n.Env(), "IMAGE="+n.python, "NO_PROXY=*", "no_proxy=*")
	cmd.Dir = t.TempDir()
	r := node.Run(t, cmd)
	if r.Code != 0 {
		t.Fatal(r)
	}
	t.Logf("%s", r.Stdout)
	for _, want := range []string{"hello\n", "https://", "Directory listing", "Linux ", "[(1, 'lo')]", "only 203.0.113.0/24", "half a core", "state\n", "copied\ncopied\n", "CONNECTIONS"} {
		if !strings.Contains(r.Stdout, want) {
			t.Errorf("the README's commands do not print %q: %s", want, r)
		}
	}
}

// runnable returns the bodies of the blocks fenced as ```sh run.
func runnable(markdown string) []string {
	var blocks []string
	inside := false
	for line := range strings.Lines(markdown) {
		switch {
		case !inside && strings.TrimSpace(line) == "```sh run":
			inside = true
			blocks = append(blocks, "")
		case inside && strings.HasPrefix(line, "```"):
			inside = false
		case inside:
			blocks[len(blocks)-1] += line
		}
	}
	return blocks
}
