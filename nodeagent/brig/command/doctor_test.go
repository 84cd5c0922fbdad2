package command_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"brig/nodeagent/brig/command"
)

// TestDoctorGPU: without a runsc sandboxes of no node can have GPUs, and the status says so.
func TestDoctorGPU(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.toml")
	if err := os.WriteFile(path, []byte("[runsc]\npath = \"/nowhere/runsc\"\n[gpu]\nspec_dirs = []\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	status := command.Main(t.Context(), command.Streams{Out: &out, Err: &errs}, []string{"doctor", "gpu", "--config", path})
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if last := lines[len(lines)-1]; status != 1 || last != "sandboxes cannot have GPUs" || !strings.Contains(out.String(), "refused: ") || errs.Len() > 0 {
		t.Errorf("status %d\n%s%s", status, out.String(), errs.String())
	}
	out.Reset()
	status = command.Main(t.Context(), command.Streams{Out: &out, Err: &errs}, []string{"doctor", "gpu", "--json", "--config", path})
	var report struct {
		Usable   bool
		Findings []struct{ Remedy string }
	}
	if err := json.Unmarshal(out.Bytes(), &report); err != nil || status != 1 || report.Usable || len(report.Findings) == 0 || report.Findings[0].Remedy == "" {
		t.Errorf("status %d, %v\n%s%s", status, err, out.String(), errs.String())
	}
}
