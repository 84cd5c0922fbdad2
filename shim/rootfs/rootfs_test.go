package rootfs

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"brig/internal/require"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
)

func bind(source, target string) mount.Mount {
	return mount.Mount{Type: "bind", Source: source, Target: target, Options: []string{"rbind", "rw"}}
}

func mounted(t *testing.T, dir string) (points []string) {
	t.Helper()
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		if point := strings.Fields(line)[4]; strings.HasPrefix(point, dir) {
			points = append(points, point)
		}
	}
	return points
}

// TestMountsWithTargets: the second lies in a folder of the first, and a link there
// leads nowhere but below it.
func TestMountsWithTargets(t *testing.T) {
	require.Root(t)
	image, volume, dir := t.TempDir(), t.TempDir(), filepath.Join(t.TempDir(), "rootfs")
	if err := errors.Join(
		os.Mkdir(filepath.Join(image, "data"), 0o755), os.Mkdir(filepath.Join(image, "etc"), 0o755),
		os.Symlink("/etc", filepath.Join(image, "link")), os.WriteFile(filepath.Join(volume, "f"), nil, 0o644),
	); err != nil {
		t.Fatal(err)
	}
	if err := Mount([]mount.Mount{bind(image, ""), bind(volume, "data"), bind(volume, "link")}, dir); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = Unmount(dir) })
	for _, file := range []string{"data/f", "etc/f"} {
		if _, err := os.Stat(filepath.Join(dir, file)); err != nil {
			t.Error(err)
		}
	}
	busy, err := os.Open(filepath.Join(dir, "data"))
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	for range 2 { // the second finds nothing to do
		if err := Unmount(dir); err != nil {
			t.Error(err)
		}
	}
	if points := mounted(t, dir); points != nil {
		t.Errorf("still mounted: %v", points)
	}
}

// TestMountFails half-way, and leaves nothing.
func TestMountFails(t *testing.T) {
	require.Root(t)
	image, dir := t.TempDir(), filepath.Join(t.TempDir(), "rootfs")
	err := Mount([]mount.Mount{bind(image, ""), bind(filepath.Join(image, "none"), "")}, dir)
	if err == nil || !strings.Contains(err.Error(), "mount root filesystem") {
		t.Errorf("a source that is not there: %v", err)
	}
	if points := mounted(t, dir); points != nil {
		t.Errorf("still mounted: %v", points)
	}
}

func TestMountOfTheMountManager(t *testing.T) {
	err := Mount([]mount.Mount{{Type: "format/overlay"}}, filepath.Join(t.TempDir(), "rootfs"))
	if !errdefs.IsNotImplemented(err) {
		t.Error(err)
	}
}

func TestUnmountOfNothing(t *testing.T) {
	if err := Unmount(filepath.Join(t.TempDir(), "none")); err != nil {
		t.Error(err)
	}
}

func TestOverlay(t *testing.T) {
	dir := t.TempDir()
	for _, c := range []struct {
		root specs.Root
		kept bool
		want string
	}{
		{specs.Root{Path: dir}, false, "root:self"},
		{specs.Root{Path: dir}, true, "none"},
		{specs.Root{Path: dir, Readonly: true}, false, "none"},
		{specs.Root{Path: filepath.Join(dir, "none")}, true, "root:memory"},
	} {
		if got := Overlay(&c.root, c.kept); got != c.want {
			t.Errorf("%+v, kept %t: %s, want %s", c.root, c.kept, got, c.want)
		}
	}
}
