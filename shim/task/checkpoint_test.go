package task

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"brig/shim/bundle"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// count prints numbers, which only its memory knows, and ends on SIGTERM with 6.
const count = `trap 'exit 6' TERM; i=0; while :; do i=$((i+1)); echo $i; sleep 0.02; done`

// counting is a shim whose program counts into a file on the host.
func counting(t *testing.T) (f *fixture, out string) {
	t.Helper()
	f = setUp(t, "/bin/sh", "-c", count)
	out = filepath.Join(t.TempDir(), "out")
	f.request.Streams.Stdout = "file://" + out
	return f, out
}

// numbers waits until there are n more than there were, and returns all of them.
func numbers(t *testing.T, path string, n int) (all []int) {
	t.Helper()
	before := -1
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		data, err := os.ReadFile(path)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		all = nil
		for line := range strings.Lines(string(data)) {
			if i, err := strconv.Atoi(strings.TrimSpace(line)); err == nil {
				all = append(all, i)
			}
		}
		if before < 0 {
			before = len(all)
		}
		if len(all) >= before+n {
			return all
		}
	}
	t.Fatalf("the program does not count any more: %v", all)
	return nil
}

// image checkpoints a counting program, which ends, and tells how far it was at least.
func image(t *testing.T) (path string, at int) {
	t.Helper()
	return imageOf(t, func(*fixture) {})
}

func imageOf(t *testing.T, change func(*fixture)) (path string, at int) {
	t.Helper()
	f, out := counting(t)
	change(f)
	f.must(f.create())
	f.must(f.start())
	all := numbers(t, out, 20)
	path = filepath.Join(t.TempDir(), "image")
	f.must(f.Checkpoint(t.Context(), f.request.ID, path, true))
	f.ends(killed)
	f.told("Created", "Started", "Checkpointed", `Exited "" 137`, "Deleted 137")
	return path, all[len(all)-1]
}

// ends waits for the program's end and frees it.
func (f *fixture) ends(code uint32) {
	f.t.Helper()
	if got := f.wait(""); got != code {
		f.t.Errorf("it ended with %d, want %d", got, code)
	}
	f.must(f.remove())
}

func TestRestore(t *testing.T) {
	path, at := image(t)
	for range 2 { // an image is not used up
		f, out := counting(t)
		f.spec.Process.Args = []string{"/bin/another", "program"}
		f.request.Checkpoint = path
		f.must(f.create())
		f.must(f.start())
		all := numbers(t, out, 20)
		for i, n := range all {
			if n != all[0]+i || n < at {
				t.Fatalf("it counts %v, want each number once from %d on or later", all, at)
			}
		}
		f.must(f.Kill(t.Context(), f.request.ID, "", unix.SIGTERM, false))
		f.ends(6)
		f.told("Created", "Started", `Exited "" 6`, "Deleted 6")
	}
}

func TestCheckpointLeavesThePausedPaused(t *testing.T) {
	f, out := counting(t)
	f.must(f.create())
	f.must(f.start())
	numbers(t, out, 5)
	f.must(f.Pause(t.Context(), f.request.ID))
	path := filepath.Join(t.TempDir(), "image")
	f.must(f.Checkpoint(t.Context(), f.request.ID, path, false))
	if state := f.state(); state != Paused {
		t.Errorf("it is %s", state)
	}
	f.must(f.Resume(t.Context(), f.request.ID))
	numbers(t, out, 5)
	f.told("Created", "Started", "Paused", "Checkpointed", "Resumed")

	g, out := counting(t)
	g.request.Checkpoint, g.request.ID = path, g.request.ID+"-restored"
	g.spec.Linux.CgroupsPath = "/" + g.request.ID
	g.must(g.create())
	g.must(g.start())
	numbers(t, out, 5) // a restored program runs, whatever the one was
}

// TestCheckpointFails and leaves the program and the place of the image as they were.
func TestCheckpointFails(t *testing.T) {
	f, out := counting(t)
	f.must(f.create())
	ctx, id := t.Context(), f.request.ID
	small := t.TempDir()
	f.must(unix.Mount("tmpfs", small, "tmpfs", 0, "size=128k"))
	t.Cleanup(func() { f.must(unix.Unmount(small, 0)) })
	used := t.TempDir()
	f.must(os.WriteFile(filepath.Join(used, "theirs"), nil, 0o600))
	if err := f.Checkpoint(ctx, id, small, true); !errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), "a created sandbox") {
		t.Errorf("before the start: %v", err)
	}
	f.must(f.start())
	for _, c := range []struct {
		name, path string
		exit       bool
		want       string
		left       int
	}{
		{"full", small, false, "no space left", 0},
		{"full", small, true, "no space left", 0},
		{"used", used, true, "theirs in it", 1},
		{"nowhere", filepath.Join(used, "theirs", "image"), false, "not a directory", 1},
	} {
		numbers(t, out, 3)
		err := f.Checkpoint(ctx, id, c.path, c.exit)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v; want %q", c.name, err, c.want)
		}
		if left, _ := os.ReadDir(c.path); c.path != filepath.Join(used, "theirs", "image") && len(left) != c.left {
			t.Errorf("%s: it left %v", c.name, left)
		}
		if state := f.state(); state != Running {
			t.Errorf("%s: the sandbox is %s", c.name, state)
		}
	}
	numbers(t, out, 3)
	f.must(f.Kill(ctx, id, "", unix.SIGTERM, false))
	if code := f.wait(""); code != 6 {
		t.Errorf("it ended with %d, want 6", code)
	}
	f.told("Created", "Started", `Exited "" 6`)
	if err := f.Checkpoint(ctx, id, small, true); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("after the end: %v", err)
	}
}

// TestRestoreRefused: nothing of an image has run, and nothing is left of the try.
func TestRestoreRefused(t *testing.T) {
	path, _ := image(t)
	var manifest map[string]any
	name := filepath.Join(path, "brig.json")
	whole, err := os.ReadFile(name)
	if err == nil {
		err = json.Unmarshal(whole, &manifest)
	}
	if err != nil {
		t.Fatal(err)
	}
	manifest["runsc"] = "20200101-abc"
	other, err := json.Marshal(manifest)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, other, 0o600); err != nil {
		t.Fatal(err)
	}
	f, _ := counting(t)
	f.request.Checkpoint = path
	if err := f.create(); !errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), "made by runsc 20200101-abc") {
		t.Errorf("another build: %v", err)
	}
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
	if err := f.create(); !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), "not finished") {
		t.Errorf("no manifest: %v", err)
	}
	f.told()
	if err := os.WriteFile(name, whole, 0o600); err != nil {
		t.Fatal(err)
	}

	f, out := counting(t)
	f.request.Checkpoint = path
	f.must(f.create())
	f.door.refuse = errors.New("the policy is missing")
	if err := f.start(); err == nil || !strings.Contains(err.Error(), "the policy is missing") {
		t.Errorf("the gate was not asked: %v", err)
	}
	time.Sleep(200 * time.Millisecond)
	if text, err := os.ReadFile(out); err != nil || len(text) > 0 {
		t.Errorf("it has run: %q, %v", text, err)
	}
	f.door.refuse = nil
	f.must(f.start())
	numbers(t, out, 3)

	f, out = counting(t)
	f.request.ID += "-caps"
	f.request.Checkpoint, f.request.Bundle = path, bundle.Bundle(t.TempDir())
	f.spec.Linux.CgroupsPath = "/" + f.request.ID
	f.spec.Process.Capabilities = &specs.LinuxCapabilities{Effective: []string{"CAP_SYS_ADMIN"}}
	f.must(f.create())
	if err := f.start(); err == nil || !strings.Contains(err.Error(), `"Capabilities" does not match`) {
		t.Errorf("other capabilities: %v", err)
	}
	if code := f.wait(""); code != failedStart {
		t.Errorf("it ended with %d", code)
	}
	if text, err := os.ReadFile(out); err != nil || len(text) > 0 {
		t.Errorf("it has run: %q, %v", text, err)
	}
}

// TestFilestoresAreRemoved: what another sandbox left, and nothing else.
func TestFilestoresAreRemoved(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{".gvisor.filestore.a", ".gvisor.filestore.b", "etc"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := removeFilestores(dir); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 || left[0].Name() != "etc" {
		t.Errorf("left: %v, %v", left, err)
	}
}
