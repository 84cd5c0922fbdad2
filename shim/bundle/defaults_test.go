package bundle

import (
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/runtime-spec/specs-go"
)

var update = flag.Bool("update", false, "write the golden files")

// TestGoldenDefaults: what ctr, nerdctl, docker and Kubernetes ask for when nobody asks
// for anything passes, and the golden files hold every difference between what they
// give and what runsc is given.
func TestGoldenDefaults(t *testing.T) {
	files, err := filepath.Glob("testdata/defaults/*.json")
	if err != nil || len(files) < 5 {
		t.Fatalf("default specs: %v, %v", files, err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".json")
		t.Run(name, func(t *testing.T) {
			var in specs.Spec
			if err := readJSON(file, &in, true); err != nil {
				t.Fatal(err)
			}
			host := Host{Bundle: "/b", LowestOOMScore: -1000}
			if name == "cri-container" {
				host.Sandbox, host.SandboxPID = "sb1", 1234
			}
			out, err := Normalize(&in, host)
			if err != nil {
				t.Fatal(err)
			}
			golden, got := strings.TrimSuffix(file, ".json")+".edits", edits(t, &in, out)
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if diff := cmp.Diff(string(want), got); err != nil || diff != "" {
				t.Errorf("%v; -want +got:\n%s", err, diff)
			}
		})
	}
}

// edits lists the values of two specs that differ, one a line.
func edits(t *testing.T, in, out *specs.Spec) string {
	t.Helper()
	before, after := flatten(t, in), flatten(t, out)
	var b strings.Builder
	paths := slices.Concat(slices.Collect(maps.Keys(before)), slices.Collect(maps.Keys(after)))
	slices.Sort(paths)
	for _, path := range slices.Compact(paths) {
		if before[path] != after[path] {
			fmt.Fprintf(&b, "%s: %s -> %s\n", path, before[path], after[path])
		}
	}
	return b.String()
}

func flatten(t *testing.T, spec *specs.Spec) map[string]string {
	t.Helper()
	data, err := json.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	var tree any
	if err := json.Unmarshal(data, &tree); err != nil {
		t.Fatal(err)
	}
	leaves := make(map[string]string)
	var walk func(path string, v any)
	walk = func(path string, v any) {
		switch v := v.(type) {
		case map[string]any:
			for key, child := range v {
				walk(path+"."+key, child)
			}
		case []any:
			for i, child := range v {
				walk(fmt.Sprintf("%s.%d", path, i), child)
			}
		default:
			leaves[strings.TrimPrefix(path, ".")] = fmt.Sprint(v)
		}
	}
	walk("", tree)
	return leaves
}
