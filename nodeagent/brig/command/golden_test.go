package command_test

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"brig/nodeagent/brig/command"
	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// TestGoldenHelp holds --help of every command against testdata/help.
func TestGoldenHelp(t *testing.T) {
	seen := map[string]bool{}
	var visit func(*cobra.Command)
	visit = func(cmd *cobra.Command) {
		file := strings.ReplaceAll(cmd.CommandPath(), " ", "-") + ".txt"
		seen[file] = true
		t.Run(cmd.CommandPath(), func(t *testing.T) { golden(t, cmd, filepath.Join("testdata", "help", file)) })
		for _, sub := range cmd.Commands() {
			if sub.IsAvailableCommand() {
				visit(sub)
			}
		}
	}
	visit(command.New(command.Streams{}))
	entries, err := os.ReadDir(filepath.Join("testdata", "help"))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !seen[e.Name()] {
			t.Errorf("testdata/help/%s belongs to no command: delete it", e.Name())
		}
	}
}

func golden(t *testing.T, cmd *cobra.Command, file string) {
	var out bytes.Buffer
	args := append(strings.Fields(cmd.CommandPath())[1:], "--help")
	if status := command.Main(t.Context(), command.Streams{Out: &out, Err: &out}, args); status != 0 {
		t.Fatalf("status %d: %s", status, out.String())
	}
	if *update {
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, out.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), out.String()); diff != "" {
		t.Errorf("help differs (-golden +now); refresh with make generate:\n%s", diff)
	}
}
