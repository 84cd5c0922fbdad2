package checkpoints

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
)

func open(t *testing.T) *Store {
	t.Helper()
	s, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// keep makes a checkpoint.
func keep(t *testing.T, s *Store, owner uint32, name string) Manifest {
	t.Helper()
	stage, err := s.Begin(owner, name)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Mkdir(stage.Image(), 0o700), os.WriteFile(filepath.Join(stage.Image(), "pages.img"), []byte("123456789"), 0o600),
		os.WriteFile(filepath.Join(stage.Image(), "brig.json"), []byte(`{"runsc":"1","args":["a"]}`), 0o600)); err != nil {
		t.Fatal(err)
	}
	build, err := stage.Runsc()
	if err != nil {
		t.Fatal(err)
	}
	m, err := stage.Commit(Manifest{
		Name: name, Owner: owner, Sandbox: "sb-abcdefghijklmnop", CreatedAt: time.Unix(1700000000, 0).UTC(), Brig: "0.1",
		Host: Host{Runsc: build, CPU: []string{"avx", "sse"}}, Image: "localhost/x:1", ImageDigest: "sha256:" + strings.Repeat("a", 64),
		Program: Program{Argv: []string{"a"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// tree is every path below the store.
func tree(t *testing.T, s *Store) (paths []string) {
	t.Helper()
	err := filepath.WalkDir(s.dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			paths = append(paths, strings.TrimPrefix(path, s.dir+"/"))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return paths
}

func TestStore(t *testing.T) {
	s := open(t)
	want := keep(t, s, 1000, "web")
	if diff := cmp.Diff(map[string]File{"pages.img": {9, 0xe3069283}, "brig.json": want.Files["brig.json"]}, want.Files); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	got, err := s.Find(1000, "web")
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	if _, err := s.Begin(1000, "web"); !errdefs.IsAlreadyExists(err) {
		t.Errorf("a name that is taken: %v", err)
	}
	other := keep(t, s, 1001, "web") // of another owner it is free
	keep(t, s, 0, "mine")
	for uid, want := range map[uint32][]uint32{1000: {1000}, 1001: {1001}, 0: {0, 1000, 1001}, 7: nil} {
		var owners []uint32
		list, err := s.List(uid)
		for _, m := range list {
			owners = append(owners, m.Owner)
		}
		if diff := cmp.Diff(want, owners); diff != "" || err != nil {
			t.Errorf("list of %d: %v (-want +got):\n%s", uid, err, diff)
		}
	}
	if _, err := s.Find(0, "web"); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("root and a name that two have: %v", err)
	}
	image, release, err := s.Hold(t.Context(), other)
	if err != nil || !strings.HasSuffix(image, "/1001/web/image") {
		t.Fatalf("%s, %v", image, err)
	}
	if err := s.Remove(1001, "web"); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("removal of one that is being restored: %v", err)
	}
	release()
	if err := s.Remove(1001, "web"); err != nil {
		t.Error(err)
	}
	if _, _, err := s.Hold(t.Context(), other); !errdefs.IsNotFound(err) {
		t.Errorf("what was removed: %v", err)
	}
	if err := s.Remove(1001, "web"); !errdefs.IsNotFound(err) {
		t.Errorf("removed again: %v", err)
	}
	if got, err := s.Find(0, "web"); err != nil || got.Owner != 1000 {
		t.Errorf("root and another's: %+v, %v", got, err)
	}
	if diff := cmp.Diff([]string{
		"0/mine/image/brig.json", "0/mine/image/pages.img", "0/mine/manifest.json",
		"1000/web/image/brig.json", "1000/web/image/pages.img", "1000/web/manifest.json",
	}, tree(t, s)); diff != "" {
		t.Errorf("on disk (-want +got):\n%s", diff)
	}
}

func TestUnfinished(t *testing.T) {
	s := open(t)
	stage, err := s.Begin(1000, "web")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(stage.Image(), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/etc/passwd", filepath.Join(stage.Image(), "pages.img")); err != nil {
		t.Fatal(err)
	}
	if _, err := stage.Commit(Manifest{Name: "web", Owner: 1000}); !errdefs.IsInvalidArgument(err) {
		t.Errorf("an image with a link: %v", err)
	}
	if list, err := s.List(1000); err != nil || len(list) > 0 {
		t.Errorf("list %v, %v", list, err)
	}
	if err := s.Sweep(); err != nil {
		t.Fatal(err)
	}
	if left := tree(t, s); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	first, err := s.Begin(1000, "web")
	if err != nil {
		t.Fatal(err)
	}
	keep(t, s, 1000, "web") // a faster one
	if err := errors.Join(os.Mkdir(first.Image(), 0o700), os.WriteFile(filepath.Join(first.Image(), "a"), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	if _, err := first.Commit(Manifest{Name: "web", Owner: 1000}); !errdefs.IsAlreadyExists(err) {
		t.Errorf("two of one name: %v", err)
	}
	if err := first.Discard(); err != nil {
		t.Error(err)
	}
	if m, err := s.Find(1000, "web"); err != nil || m.Sandbox == "" {
		t.Errorf("the faster one: %+v, %v", m, err)
	}
}

func TestNames(t *testing.T) {
	s := open(t)
	for _, name := range []string{"", ".", "..", ".a", "-a", "a/b", "../a", "a b", "ä", "a\x00", "a\n", strings.Repeat("a", 65)} {
		_, errBegin := s.Begin(1000, name)
		_, errFind := s.Find(1000, name)
		_, errOwner := s.OwnerOf(1000, name)
		for _, err := range []error{errBegin, errFind, errOwner, s.Remove(1000, name)} {
			if !errdefs.IsInvalidArgument(err) {
				t.Errorf("%q: %v", name, err)
			}
		}
	}
	if entries, err := os.ReadDir(s.dir); err != nil || len(entries) > 0 {
		t.Errorf("left: %v, %v", entries, err)
	}
}

// TestAnUnreadableOneDoesNotHideOthers, and its owner can remove it.
func TestAnUnreadableOneDoesNotHideOthers(t *testing.T) {
	s := open(t)
	keep(t, s, 1000, "a")
	keep(t, s, 1000, "b")
	if err := os.Remove(filepath.Join(s.path(1000, "a"), manifestFile)); err != nil {
		t.Fatal(err)
	}
	list, err := s.List(1000)
	if len(list) != 1 || err == nil || !strings.Contains(err.Error(), "checkpoint a is damaged") {
		t.Errorf("list %v, %v", list, err)
	}
	if owner, err := s.OwnerOf(1000, "a"); owner != 1000 || err != nil {
		t.Errorf("owner %d, %v", owner, err)
	}
	if err := s.Remove(1000, "a"); err != nil {
		t.Error(err)
	}
}

func FuzzManifest(f *testing.F) {
	f.Add([]byte(`{"format":1,"name":"a","sandbox":"sb-abcdefghijklmnop"}`))
	f.Add([]byte(`{}{}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, manifestFile), text, 0o600); err != nil {
			t.Fatal(err)
		}
		r, err := os.OpenRoot(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		if m, err := readManifest(r); err == nil && (m.Host.Runsc == "" || m.Image == "" || len(m.Files) == 0) {
			t.Errorf("accepted %+v", m)
		}
	})
}

// TestManyRestores: what waits to be read holds nothing, and ends with its caller.
func TestManyRestores(t *testing.T) {
	s := open(t)
	m := keep(t, s, 1000, "web")
	for range readsAtOnce {
		s.reading <- struct{}{}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := s.Hold(ctx, m); !errors.Is(err, context.Canceled) {
		t.Errorf("one too many: %v", err)
	}
	if err := s.Remove(1000, "web"); err != nil {
		t.Errorf("what nobody holds: %v", err)
	}
}

// TestThisHost: runsc is started for the first question alone, however many ask at once,
// and again when it was replaced.
func TestThisHost(t *testing.T) {
	dir := t.TempDir()
	path, asked := filepath.Join(dir, "runsc"), filepath.Join(dir, "asked")
	install := func(version string) {
		t.Helper()
		script := "#!/bin/sh\necho $1 >>" + asked + "\ncase $1 in --version) echo runsc version " + version + ";; *) echo sse,avx;; esac\n"
		if err := errors.Join(os.WriteFile(path+".new", []byte(script), 0o700), os.Rename(path+".new", path)); err != nil {
			t.Fatal(err)
		}
	}
	for _, version := range []string{"one", "two"} {
		install(version)
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				h, err := ThisHost(t.Context(), path)
				if diff := cmp.Diff(Host{Runsc: version, CPU: []string{"avx", "sse"}}, h); diff != "" || err != nil {
					t.Errorf("%v (-want +got):\n%s", err, diff)
				}
			})
		}
		wg.Wait()
	}
	data, err := os.ReadFile(asked)
	if err != nil || strings.Count(string(data), "\n") != 4 {
		t.Errorf("runsc was asked %q, %v; want twice the two questions", data, err)
	}
	if _, err := ThisHost(t.Context(), filepath.Join(dir, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without runsc: %v", err)
	}
}
