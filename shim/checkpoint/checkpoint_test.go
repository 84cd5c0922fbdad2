package checkpoint

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
)

var program = Manifest{Runsc: "1.2-3", Args: []string{"sleep", "1"}}

// write makes the files that runsc would, and the image at path.
func write(t *testing.T, path string) error {
	t.Helper()
	i, err := Create(path)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := os.WriteFile(filepath.Join(i.Dir(), name), []byte(name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return i.Commit(program)
}

func TestImage(t *testing.T) {
	for _, path := range []string{t.TempDir(), filepath.Join(t.TempDir(), "new")} {
		if err := write(t, path); err != nil {
			t.Fatal(err)
		}
		got, err := Open(path)
		want := program
		want.Files = map[string]int64{"checkpoint.img": 14, "pages_meta.img": 14, "pages.img": 9}
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%v, -want +got:\n%s", err, diff)
		}
		entries, err := os.ReadDir(path)
		if err != nil || len(entries) != 4 {
			t.Errorf("in the folder: %v, %v", entries, err)
		}
		for _, e := range entries {
			if fi, err := e.Info(); err != nil || fi.Mode() != 0o600 {
				t.Errorf("%s has mode %s, %v", e.Name(), fi.Mode(), err)
			}
		}
		if err := write(t, path); !errdefs.IsAlreadyExists(err) {
			t.Errorf("an image over an image: %v", err)
		}
	}
}

// TestDiscard leaves the place as it was.
func TestDiscard(t *testing.T) {
	empty := t.TempDir()
	for _, path := range []string{empty, filepath.Join(empty, "new")} {
		i, err := Create(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(i.Dir(), "checkpoint.img"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := i.Commit(program); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("half an image: %v", err)
		}
		if err := i.Discard(); err != nil {
			t.Error(err)
		}
		if left, err := os.ReadDir(empty); err != nil || len(left) > 0 {
			t.Errorf("left: %v, %v", left, err)
		}
	}
}

// TestHostileImages: what is opened as root is a plain file of a known name.
func TestHostileImages(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(at func(string) string) error
		want   string
	}{
		{"no manifest", func(at func(string) string) error { return os.Remove(at("brig.json")) }, "not made by brig, or not finished"},
		{"a link to the host's", func(at func(string) string) error {
			return errors.Join(os.Remove(at("pages.img")), os.Symlink("/etc/shadow", at("pages.img")))
		}, "pages.img is no plain file"},
		{"a link for a manifest", func(at func(string) string) error {
			return errors.Join(os.Remove(at("brig.json")), os.Symlink("/etc/shadow", at("brig.json")))
		}, "brig.json is no plain file"},
		{"cut short", func(at func(string) string) error { return os.Truncate(at("pages.img"), 3) }, "pages.img is missing or not whole"},
		{"incomplete", func(at func(string) string) error { return os.Remove(at("pages_meta.img")) }, "pages_meta.img is missing or not whole"},
		{"instructions for runsc", func(at func(string) string) error { return os.WriteFile(at("gcs_opts.json"), nil, 0o600) }, "gcs_opts.json does not belong there"},
		{"a folder", func(at func(string) string) error { return os.Mkdir(at("more"), 0o700) }, "more is no plain file"},
		{"an unknown field", func(at func(string) string) error {
			return os.WriteFile(at("brig.json"), []byte(`{"runsc":"1","args":["a"],"policy":"open"}`), 0o600)
		}, "policy"},
		{"no program", func(at func(string) string) error {
			return os.WriteFile(at("brig.json"), []byte(`{"runsc":"1"}`), 0o600)
		}, "does not tell the build"},
		{"a size of its own", func(at func(string) string) error {
			return os.WriteFile(at("brig.json"), []byte(`{"runsc":"1","args":["a"],"files":{"checkpoint.img":-1}}`), 0o600)
		}, "checkpoint.img is missing or not whole"},
	} {
		path := t.TempDir()
		if err := write(t, path); err != nil {
			t.Fatal(err)
		}
		if err := c.change(func(name string) string { return filepath.Join(path, name) }); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(path); !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v; want %q", c.name, err, c.want)
		}
	}
	if _, err := Open(filepath.Join(t.TempDir(), "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no image at all: %v", err)
	}
}

func TestRestorable(t *testing.T) {
	if err := program.Restorable("1.2-3", nil); err != nil {
		t.Error(err)
	}
	err := program.Restorable("1.2-4", nil)
	if !errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), "made by runsc 1.2-3 and this node runs 1.2-4") {
		t.Errorf("another build: %v", err)
	}
	gpu := program
	gpu.DriverCapabilities = []string{"compute", "utility"}
	if err := gpu.Restorable("1.2-3", []string{"compute", "utility"}); err != nil {
		t.Error(err)
	}
	for _, has := range [][]string{nil, {"compute"}} {
		if err := gpu.Restorable("1.2-3", has); !errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), "ask for GPUs as then") {
			t.Errorf("in a sandbox with %q of the driver: %v", has, err)
		}
	}
	if err := program.Restorable("1.2-3", []string{"compute"}); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("an image without GPUs in a sandbox with: %v", err)
	}
}

// FuzzManifest: an image's manifest may be anybody's.
func FuzzManifest(f *testing.F) {
	f.Add([]byte(`{"runsc":"1","args":["a"],"files":{"pages.img":1}}`))
	f.Add([]byte(`{"args":null}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		path := filepath.Join(t.TempDir(), manifestName)
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		if m, err := readManifest(path); err == nil && (m.Runsc == "" || len(m.Args) == 0) {
			t.Errorf("accepted %+v", m)
		}
	})
}
