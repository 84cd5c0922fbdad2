package hooks

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"brig/internal/config"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/runtime-spec/specs-go"
)

var update = flag.Bool("update", false, "write the golden files")

// node is one whose operator allows no more than the usual and video.
func node(name string) Host {
	dir := "testdata/cdi"
	if strings.Contains(name, "greedy") {
		dir = "testdata/cdi-greedy"
	}
	return Host{
		Own:    strings.HasPrefix(name, "caller-brigd"),
		CDIDir: dir, Capabilities: []string{"compute", "utility", "video"},
	}
}

func read(t *testing.T, file string) *specs.Spec {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	spec := new(specs.Spec)
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(spec); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return spec
}

func inputs(t testing.TB) []string {
	t.Helper()
	files, err := filepath.Glob("testdata/specs/*.json")
	if err != nil || len(files) < 40 {
		t.Fatalf("specs: %d, %v", len(files), err)
	}
	return files
}

// TestGoldenSpecs: for every caller and every trap, what becomes of the spec that it
// gives.
func TestGoldenSpecs(t *testing.T) {
	for _, file := range inputs(t) {
		name := strings.TrimSuffix(filepath.Base(file), ".json")
		t.Run(name, func(t *testing.T) {
			in := read(t, file)
			before := text(t, in)
			plan, err := Modify(in, node(name))
			if diff := cmp.Diff(before, text(t, in)); diff != "" {
				t.Errorf("the input was changed: -before +after:\n%s", diff)
			}
			got := outcome(t, plan, err)
			golden := strings.TrimSuffix(file, ".json") + ".golden"
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

func outcome(t *testing.T, plan *Plan, err error) string {
	t.Helper()
	if err != nil {
		return "error: " + err.Error() + "\n"
	}
	return fmt.Sprintf("devices: %q\ncapabilities: %q\ndropped: %q\noperations: %d\n%s",
		plan.Devices, plan.Capabilities, plan.Dropped, len(plan.operations), text(t, plan.Spec))
}

func text(t *testing.T, v any) string {
	t.Helper()
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return string(data) + "\n"
}

// TestDeterminism: a sandbox is restored with the bytes that it was saved with, so the same
// request gives the same, however often it is made.
func TestDeterminism(t *testing.T) {
	for _, file := range inputs(t) {
		name := strings.TrimSuffix(filepath.Base(file), ".json")
		var first string
		for i := range 100 {
			plan, err := Modify(read(t, file), node(name))
			switch got := outcome(t, plan, err); {
			case i == 0:
				first = got
			case got != first:
				t.Fatalf("%s, run %d: -first +now:\n%s", name, i, cmp.Diff(first, got))
			}
		}
	}
}

// TestOrderOfNames: what brigd asks for does not depend on the order of its words.
func TestOrderOfNames(t *testing.T) {
	const a, b = "nvidia.com/gpu=0", "nvidia.com/gpu=GPU-00000000-1111-2222-3333-444444444444"
	var first string
	for i, names := range []string{a + "," + b, b + "," + a, b + ", " + a + "," + b} {
		in := read(t, "testdata/specs/caller-none.json")
		in.Annotations = map[string]string{"brig/gpu": names}
		plan, err := Modify(in, node("caller-brigd"))
		if err != nil {
			t.Fatal(err)
		}
		plan.Spec.Annotations = nil
		got := outcome(t, plan, nil)
		if i == 0 {
			first = got
		}
		if diff := cmp.Diff(first, got); diff != "" {
			t.Errorf("%s: -first +now:\n%s", names, diff)
		}
	}
}

// TestAgain: a spec that was modified stays as it is, but for the hooks, which have gone.
func TestAgain(t *testing.T) {
	for _, file := range inputs(t) {
		name := strings.TrimSuffix(filepath.Base(file), ".json")
		once, err := Modify(read(t, file), node(name))
		if err != nil || strings.HasPrefix(name, "caller-brigd") {
			continue
		}
		twice, err := Modify(once.Spec, node(name))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if diff := cmp.Diff(text(t, once.Spec), text(t, twice.Spec)); diff != "" {
			t.Errorf("%s: -once +twice:\n%s", name, diff)
		}
	}
}

// TestNoHost: the zero value gives nobody a GPU.
func TestNoHost(t *testing.T) {
	for _, name := range []string{"caller-ctr-device", "caller-brigd"} {
		if plan, err := Modify(read(t, "testdata/specs/"+name+".json"), Host{}); err == nil {
			t.Errorf("%s on a host that allows nothing: %v", name, plan.Devices)
		}
	}
}

// TestBrokenSpecification: why a GPU is not among those of the node is told with it.
func TestBrokenSpecification(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "brig-nvidia.json"), []byte(`{"cdiVersion": "0.5.0", "kind": `), 0o600); err != nil {
		t.Fatal(err)
	}
	in := read(t, "testdata/specs/caller-brigd.json")
	_, err := Modify(in, Host{Own: true, CDIDir: dir, Capabilities: config.GPUCapabilities})
	if err == nil || !strings.Contains(err.Error(), "is not among the GPUs of this node") || !strings.Contains(err.Error(), "failed to load CDI Spec") {
		t.Errorf("%v", err)
	}
}

// TestMalformedHook: a hook of NVIDIA's that cannot be understood refuses the container.
func TestMalformedHook(t *testing.T) {
	for _, args := range [][]string{{"nvidia-cdi-hook", "create-symlinks", "--link", "nowhere"}, {"nvidia-cdi-hook", "update-ldcache", "--folder"}} {
		in := read(t, "testdata/specs/caller-ctr-device.json")
		in.Hooks.CreateContainer = append(in.Hooks.CreateContainer, specs.Hook{Path: "/usr/bin/nvidia-cdi-hook", Args: args})
		if _, err := Modify(in, node("")); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%q: %v", args, err)
		}
	}
}

// TestApplyOrder: links first, the linker's cache last.
func TestApplyOrder(t *testing.T) {
	argv := [][]string{{"nvidia-cdi-hook", "update-ldcache"}, {"nvidia-ctk", "hook", "enable-cuda-compat"}, {"nvidia-cdi-hook", "create-symlinks", "--link", "a::/b"}}
	var ranks []int
	for _, a := range argv {
		ranks = append(ranks, rank(a))
	}
	if diff := cmp.Diff([]int{2, 1, 0}, ranks); diff != "" {
		t.Error(diff)
	}
}

// TestApply does in a real root what the specification's hooks would have done.
func TestApply(t *testing.T) {
	root, library := t.TempDir(), filepath.Join(t.TempDir(), "library")
	if err := os.WriteFile(library, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	in := read(t, "testdata/specs/caller-ctr-device.json")
	for i := range in.Mounts {
		if slices.Contains(in.Mounts[i].Options, "rbind") {
			in.Mounts[i].Source = library
		}
	}
	plan, err := Modify(in, node("caller-ctr-device"))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // again, it changes nothing
		if err := plan.Apply(root, plan.Spec.Mounts); err != nil {
			t.Fatal(err)
		}
		link, err := os.Readlink(filepath.Join(root, "usr/lib/x86_64-linux-gnu/libcuda.so"))
		if link != "libcuda.so.1" || err != nil {
			t.Errorf("libcuda.so leads to %q, %v", link, err)
		}
	}
	if err := plan.Apply(filepath.Join(root, "nothing"), nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a root that is not there: %v", err)
	}
}
