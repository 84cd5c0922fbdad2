package gpu

import (
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var uuid = regexp.MustCompile(`GPU-[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)

// asking are the flags of brig that ask for these GPUs.
func asking(uuids ...string) (flags []string) {
	for _, u := range uuids {
		flags = append(flags, "--gpu", u)
	}
	return flags
}

// smi is NVIDIA's own list of GPUs, from where a driver's container has it, too.
const smi = "export PATH=$PATH:/usr/local/nvidia/bin; exec nvidia-smi -L"

// shown are the UUIDs in a program's output, sorted.
func shown(text string) []string {
	return slices.Sorted(slices.Values(uuid.FindAllString(text, -1)))
}

// TestDoctor: the node says that it can do what the other tests do.
func TestDoctor(t *testing.T) {
	f := use(t)
	r := f.Try(t, "doctor", "gpu", "--config", filepath.Join(f.Dir, "config.toml"))
	if r.Code != 0 || !strings.HasSuffix(r.Stdout, "sandboxes can have GPUs\n") {
		t.Error(r)
	}
	t.Logf("%s", r.Stdout)
}

// TestExactlyThose: NVIDIA's own program and CUDA see inside the GPUs that were asked for,
// one by one and all at once, and no others.
func TestExactlyThose(t *testing.T) {
	f := use(t)
	asked := [][]string{f.uuids()}
	for _, u := range f.uuids() {
		asked = append(asked, []string{u})
	}
	for _, want := range asked {
		slices.Sort(want)
		for _, program := range [][]string{{"sh", "-c", smi}, {"cuda-check", "list"}} {
			r := f.Try(t, slices.Concat([]string{"run"}, asking(want...), []string{image, "--"}, program)...)
			if diff := cmp.Diff(want, shown(r.Stdout)); diff != "" || r.Code != 0 {
				t.Errorf("%s\n(-want +got):\n%s", r, diff)
			}
		}
	}
}

// TestNobodyAsked is trap A: the image says NVIDIA_VISIBLE_DEVICES=all, and without a
// request there is no GPU; with one there is that one.
func TestNobodyAsked(t *testing.T) {
	f := use(t)
	const look = "echo visible=$NVIDIA_VISIBLE_DEVICES; ls /dev | grep -i nvidia; exit 0"
	r := f.Try(t, "run", image, "--", "sh", "-c", look)
	if r.Code != 0 || strings.Contains(strings.TrimPrefix(r.Stdout, "visible="), "nvidia") {
		t.Errorf("devices without a request: %s", r)
	}
	r = f.Try(t, "run", image, "--", "cuda-check", "list")
	if r.Code != 2 || len(shown(r.Stdout)) > 0 {
		t.Errorf("CUDA without a request: %s", r)
	}
	r = f.Try(t, "run", "--gpu", f.gpus[0].UUID, image, "--", "sh", "-c", look)
	if r.Code != 0 || !strings.HasPrefix(r.Stdout, "visible=void\n") {
		t.Fatalf("the environment: %s", r)
	}
	for _, line := range strings.Fields(r.Stdout)[1:] {
		allowed := []string{"nvidiactl", "nvidia-uvm", "nvidia-uvm-tools", "nvidia" + minor(f.gpus[0].Minor)}
		if !slices.Contains(allowed, line) {
			t.Errorf("/dev/%s was not asked for", line)
		}
	}
}

// TestOneOwner: a GPU has one owner, and the next gets it when that one is gone.
func TestOneOwner(t *testing.T) {
	f := use(t)
	first := f.Create(t, append(asking(f.uuids()...), image)...)
	r := f.Try(t, "create", "--gpu", f.gpus[0].UUID, image)
	if r.Code == 0 || !strings.Contains(r.Stderr, f.gpus[0].UUID) || strings.Count(strings.TrimSpace(r.Stderr), "\n") > 0 {
		t.Errorf("a second owner: %s", r)
	}
	f.Brig(t, "rm", "--force", first)
	f.Create(t, "--gpu", f.gpus[0].UUID, image)
}

// TestShared: where the operator says so, a GPU has several owners at once.
func TestShared(t *testing.T) {
	f := launch(t, "shared = true\npublish = \"\"\n")
	for range 2 {
		id := f.Create(t, "--gpu", f.gpus[0].UUID, image)
		if r := f.Try(t, "exec", id, "--", "cuda-check", "add"); r.Code != 0 {
			t.Error(r)
		}
	}
}
