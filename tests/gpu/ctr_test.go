package gpu

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const ctrNamespace = "gpu"

// TestCtr: ctr puts CDI's edits into the spec by itself, of the specification that brigd
// has published or of somebody else's, and gets the GPU that it names.
func TestCtr(t *testing.T) {
	f := use(t)
	if r := f.Ctr(t, ctrNamespace, "image", "import", filepath.Join(f.Bin, "gpu", "image.tar")); r.Code != 0 {
		t.Fatal(r)
	}
	if _, err := os.Stat(published); err != nil {
		t.Fatalf("brigd has published no specification: %v", err)
	}
	run := func(name string, flags []string, argv ...string) []string {
		t.Helper()
		args := slices.Concat([]string{"run", "--rm", "--runtime", "io.containerd.brig.v1"}, flags, []string{image, name}, argv)
		r := f.Ctr(t, ctrNamespace, args...)
		if r.Code != 0 {
			t.Errorf("%s: %s", name, r)
		}
		return shown(r.Stdout)
	}
	for i, g := range f.gpus {
		for _, device := range []string{g.UUID, strconv.Itoa(i)} {
			got := run("cdi-"+device, []string{"--device", "nvidia.com/gpu=" + device}, "cuda-check", "list")
			if diff := cmp.Diff([]string{g.UUID}, got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", device, diff)
			}
		}
	}
	run("cdi-add", []string{"--device", "nvidia.com/gpu=0"}, "cuda-check", "add")
	if r := f.Ctr(t, ctrNamespace, "run", "--rm", "--runtime", "io.containerd.brig.v1", image, "none", "cuda-check", "list"); r.Code != 2 {
		t.Errorf("without a device: %s", r)
	}
	// The other form, by the first index.
	if diff := cmp.Diff([]string{f.gpus[0].UUID}, run("gpus", []string{"--gpus", "0"}, "cuda-check", "list")); diff != "" {
		t.Errorf("--gpus 0 (-want +got):\n%s", diff)
	}
}
