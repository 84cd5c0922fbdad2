package sandboxes_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"

	"brig/internal/netpolicy"
	"brig/nodeagent/quota"
	"brig/nodeagent/record"
	"brig/nodeagent/sandboxes/fake"
)

// runsc gives the node one that tells a build and the CPU's features.
func (n *node) runsc(t *testing.T, build, cpu string) {
	t.Helper()
	n.cfg.Runsc.Path = filepath.Join(t.TempDir(), "runsc")
	script := fmt.Sprintf("#!/bin/sh\ncase $1 in --version) echo 'runsc version %s';; cpu-features) echo '%s';; esac\n", build, cpu)
	if err := os.WriteFile(n.cfg.Runsc.Path, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
}

// mustKeep compares what there is in the folders of what is kept, and what is counted.
func mustKeep(t *testing.T, n *node, b *brigd, images uint64, checkpoints ...string) {
	t.Helper()
	if stages, err := filepath.Glob(filepath.Join(n.cfg.StateDir, "snapshots", "*")); len(stages) > 0 || err != nil {
		t.Errorf("left of snapshots: %v, %v", stages, err)
	}
	got := []string{}
	entries, err := os.ReadDir(filepath.Join(n.cfg.StateDir, "checkpoints", "1000"))
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if diff := cmp.Diff(append([]string{}, checkpoints...), got); diff != "" || err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Errorf("checkpoints %v (-want +got):\n%s", err, diff)
	}
	if used := b.parts.Quota.Used(1000)[quota.Images]; used != images {
		t.Errorf("counted %d, want %d", used, images)
	}
}

func TestSnapshot(t *testing.T) {
	n := newNode(t)
	n.cfg.Quotas.Images = 2
	b := n.start(t)
	rec := create(t, b, record.Request{})
	const full = "snapshot.brig/1000/web:v1"
	got, err := b.Snapshot(t.Context(), rec, "web:v1")
	if err != nil || got.Name != full {
		t.Fatalf("%+v, %v", got, err)
	}
	mustKeep(t, n, b, 1)
	if _, err := b.Snapshot(t.Context(), rec, "web:v1"); !errdefs.IsAlreadyExists(err) {
		t.Errorf("a name that is taken: %v", err)
	}
	if _, err := b.Snapshot(t.Context(), rec, "../x"); !errdefs.IsInvalidArgument(err) {
		t.Errorf("no name: %v", err)
	}
	for _, step := range []string{"layer", "commit"} {
		n.Fail(step, errors.New("no space left on device"))
		if _, err := b.Snapshot(t.Context(), rec, "other"); !errdefs.IsResourceExhausted(err) || !strings.Contains(err.Error(), "is full: make room") {
			t.Errorf("%s fails: %v", step, err)
		}
		n.Fail(step, nil)
		mustKeep(t, n, b, 1)
	}
	if _, err := b.Snapshot(t.Context(), rec, "second"); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Snapshot(t.Context(), rec, "third"); !errdefs.IsResourceExhausted(err) || !strings.Contains(err.Error(), "quotas.images") {
		t.Errorf("over the quota: %v", err)
	}
	for _, tc := range []struct {
		uid   uint32
		image string
		want  string // what is made of it; empty: nothing
	}{
		{1000, "web:v1", full}, {1000, full, full}, {0, full, full}, {1001, full, ""}, {1001, "web:v1", ""}, {0, "web:v1", ""},
	} {
		made, err := b.Create(t.Context(), tc.uid, record.Request{Image: tc.image})
		switch {
		case tc.want == "" && !errdefs.IsNotFound(err):
			t.Errorf("uid %d makes a sandbox of %s: %v", tc.uid, tc.image, err)
		case tc.want != "" && (err != nil || n.Made(string(made.ID)).Image != tc.want):
			t.Errorf("uid %d, %s: %v", tc.uid, tc.image, err)
		}
	}
	b.stop()
	b = n.start(t) // counts what is there
	mustKeep(t, n, b, 2)
	if err := b.RemoveImage(t.Context(), 1001, full); !errdefs.IsNotFound(err) {
		t.Errorf("another's removal: %v", err)
	}
	if err := b.RemoveImage(t.Context(), 1000, image); !errdefs.IsPermissionDenied(err) {
		t.Errorf("removal of everybody's: %v", err)
	}
	if err := b.RemoveImage(t.Context(), 1000, "web:v1"); err != nil {
		t.Error(err)
	}
	mustKeep(t, n, b, 1)
}

func TestCheckpoint(t *testing.T) {
	n := newNode(t)
	n.runsc(t, fake.Build, "sse,avx")
	n.cfg.Quotas.Images = 1
	b := n.start(t)
	rec := create(t, b, record.Request{
		Name: "web", Argv: []string{"serve"}, Env: map[string]string{"A": "1"}, Workdir: "/w", Network: netpolicy.Spec{BlockNetwork: true},
	})
	c, err := b.Checkpoint(t.Context(), rec, "warm", false)
	if err != nil {
		t.Fatal(err)
	}
	if c.Host.Runsc != fake.Build || c.Image != image || c.Size() == 0 || c.Sandbox != rec.ID {
		t.Errorf("%+v", c)
	}
	mustKeep(t, n, b, 1, "warm")
	if got := stands(t, n, b, rec); got != [2]bool{} {
		t.Errorf("it stands still: %v", got)
	}
	if _, err := b.Checkpoint(t.Context(), rec, "warm", true); !errdefs.IsAlreadyExists(err) {
		t.Errorf("a name that is taken: %v", err)
	}
	if _, err := b.Checkpoint(t.Context(), rec, "second", true); !errdefs.IsResourceExhausted(err) {
		t.Errorf("over the quota: %v", err)
	}
	mustKeep(t, n, b, 1, "warm")
	again, err := b.Create(t.Context(), 1000, record.Request{Name: "clone", Checkpoint: "warm", RequestID: "r1", Tags: map[string]string{"k": "v"}})
	if err != nil {
		t.Fatal(err)
	}
	made := n.Made(string(again.ID))
	if made.Image != image || made.ImageDigest != c.ImageDigest || !strings.HasSuffix(made.Restore, "checkpoints/1000/warm/image") ||
		made.Hostname != "clone" || made.Netns == "" || made.Env["A"] != "1" {
		t.Errorf("made of %+v", made)
	}
	if diff := cmp.Diff(record.Request{
		Name: "clone", Checkpoint: "warm", RequestID: "r1", Tags: map[string]string{"k": "v"},
		Image: image, Argv: []string{"serve"}, Env: map[string]string{"A": "1"}, Workdir: "/w", Timeout: again.Request.Timeout,
	}, again.Request); diff != "" {
		t.Errorf("on record (-want +got):\n%s", diff)
	}
	if err := b.RemoveCheckpoint(1001, "warm"); !errdefs.IsNotFound(err) {
		t.Errorf("another's removal: %v", err)
	}
	if err := b.RemoveCheckpoint(1000, "warm"); err != nil {
		t.Fatal(err)
	}
	mustKeep(t, n, b, 0)
	repeated, err := b.Create(t.Context(), 1000, record.Request{Name: "clone", Checkpoint: "warm", RequestID: "r1", Tags: map[string]string{"k": "v"}})
	if err != nil || repeated.ID != again.ID {
		t.Errorf("the same request, without its checkpoint: %s, %v", repeated.ID, err)
	}
	if _, err := b.Checkpoint(t.Context(), rec, "last", true); err != nil {
		t.Fatal(err)
	}
	if got := wait(t, b, rec); got != "terminated" {
		t.Errorf("with exit it ended by %s", got)
	}
	b.stop()
	b = n.start(t)
	mustKeep(t, n, b, 1, "last")
}

// TestCheckpointOfGPUs is refused before the sandbox stands still, and leaves nothing.
func TestCheckpointOfGPUs(t *testing.T) {
	n := newNode(t)
	n.runsc(t, fake.Build, "sse,avx")
	b := n.start(t)
	rec := create(t, b, record.Request{})
	n.Fail("pause", errors.New("it was paused"))
	n.Fail("checkpoint", errors.New("it was saved"))
	rec.GPUs = []string{"GPU-00000000-0000-0000-0000-000000000000"}
	for _, exit := range []bool{false, true} {
		if _, err := b.Checkpoint(t.Context(), rec, "warm", exit); !errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), "has GPUs") {
			t.Errorf("exit %v: %v", exit, err)
		}
	}
	mustKeep(t, n, b, 0)
	if got := stands(t, n, b, rec); got != [2]bool{} {
		t.Errorf("it stands still: %v", got)
	}
}

func TestCheckpointFails(t *testing.T) {
	n := newNode(t)
	n.runsc(t, fake.Build, "sse")
	b := n.start(t)
	rec := create(t, b, record.Request{})
	n.Fail("checkpoint", errors.New("no space left on device"))
	if _, err := b.Checkpoint(t.Context(), rec, "warm", true); !errdefs.IsResourceExhausted(err) {
		t.Errorf("a full disk: %v", err)
	}
	mustKeep(t, n, b, 0)
	if got := stands(t, n, b, rec); got != [2]bool{} {
		t.Errorf("it stands still: %v", got)
	}
}

// TestRestoreIsRefused before anything is made.
func TestRestoreIsRefused(t *testing.T) {
	n := newNode(t)
	n.runsc(t, fake.Build, "avx,sse")
	b := n.start(t)
	rec := create(t, b, record.Request{})
	if _, err := b.Checkpoint(t.Context(), rec, "warm", true); err != nil {
		t.Fatal(err)
	}
	wait(t, b, rec)
	if err := b.Remove(t.Context(), rec, false); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(n.cfg.StateDir, "checkpoints/1000/warm")
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	whole, err := os.ReadFile(filepath.Join(dir, "manifest.json"))
	if err != nil {
		t.Fatal(err)
	}
	mustFail := func(name string, uid uint32, r record.Request, is func(error) bool, want string) {
		t.Helper()
		before := len(n.Log())
		if _, err := b.Create(t.Context(), uid, r); !is(err) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v; want %q", name, err, want)
		}
		if log := n.Log()[before:]; len(log) > 0 {
			t.Errorf("%s: %v was done", name, log)
		}
	}
	warm := record.Request{Checkpoint: "warm"}
	mustFail("another uid", 1001, warm, errdefs.IsNotFound, "no checkpoint warm")
	mustFail("none", 1000, record.Request{Checkpoint: "cold"}, errdefs.IsNotFound, "no checkpoint cold")
	mustFail("a path", 1000, record.Request{Checkpoint: "../1000/warm"}, errdefs.IsInvalidArgument, "invalid from_checkpoint")
	for field, r := range map[string]record.Request{
		"image": {Image: image}, "argv": {Argv: []string{"a"}}, "workdir": {Workdir: "/"}, "tty": {Streams: record.Streams{TTY: true}},
		"stdin": {Streams: record.Streams{Stdin: true}}, "mounts": {Mounts: []record.Mount{{Target: "/a"}}},
		"env": {Env: map[string]string{"A": "1"}}, "secrets": {Secrets: record.Secrets{"A": "1"}},
		"resources.pids": {Resources: record.Resources{PIDs: 64}}, "resources.disk_mib": {Resources: record.Resources{DiskMiB: 64}},
	} {
		r.Checkpoint = "warm"
		mustFail(field, 1000, r, errdefs.IsInvalidArgument, field+" cannot be given with from_checkpoint")
	}
	n.runsc(t, "other-2", "avx,sse")
	mustFail("another runsc", 1000, warm, errdefs.IsFailedPrecondition, "this node runs other-2")
	n.runsc(t, fake.Build, "sse")
	mustFail("another CPU", 1000, warm, errdefs.IsFailedPrecondition, "a CPU with avx")
	n.runsc(t, fake.Build, "avx,new,sse")
	write("manifest.json", strings.Replace(string(whole), `"image_digest": "sha256:`, `"image_digest": "sha256:0000`, 1)[:len(whole)])
	mustFail("a manifest cut short", 1000, warm, errdefs.IsFailedPrecondition, "is damaged")
	write("manifest.json", strings.Replace(string(whole), `"owner"`, `"policy": {}, "owner"`, 1))
	mustFail("an unknown field", 1000, warm, errdefs.IsFailedPrecondition, "is damaged")
	write("manifest.json", strings.Replace(string(whole), `"owner": 1000`, `"owner": 1001`, 1))
	mustFail("a moved one", 1000, warm, errdefs.IsFailedPrecondition, "is damaged")
	write("manifest.json", string(whole))
	pages, err := os.ReadFile(filepath.Join(dir, "image/pages.img"))
	if err != nil {
		t.Fatal(err)
	}
	write("image/pages.img", string(pages[:3]))
	mustFail("truncated", 1000, warm, errdefs.IsFailedPrecondition, "pages.img has 3 bytes")
	write("image/pages.img", strings.ToUpper(string(pages)))
	mustFail("corrupt", 1000, warm, errdefs.IsFailedPrecondition, "the content of pages.img has changed")
	write("image/pages.img", string(pages))
	write("image/gcs_opts.json", "{}")
	mustFail("something more", 1000, warm, errdefs.IsFailedPrecondition, "gcs_opts.json does not belong there")
	if err := errors.Join(os.Remove(filepath.Join(dir, "image/gcs_opts.json")), os.Remove(filepath.Join(dir, "image/pages.img")),
		os.Symlink("/etc/passwd", filepath.Join(dir, "image/pages.img"))); err != nil {
		t.Fatal(err)
	}
	mustFail("a link", 1000, warm, errdefs.IsFailedPrecondition, "pages.img is no plain file")
	if err := os.Remove(filepath.Join(dir, "image/pages.img")); err != nil {
		t.Fatal(err)
	}
	mustFail("incomplete", 1000, warm, errdefs.IsFailedPrecondition, "pages.img is missing")
	write("image/pages.img", string(pages))
	if err := n.RemoveImage(t.Context(), image); err != nil {
		t.Fatal(err)
	}
	mustFail("without its image", 1000, warm, errdefs.IsFailedPrecondition, "is not on this node any more")
	mustBeEmpty(t, n)
}

// TestUnfinishedIsRemoved: what a brigd that was killed was making is gone at its next
// start.
func TestUnfinishedIsRemoved(t *testing.T) {
	n := newNode(t)
	for _, path := range []string{"snapshots/sb-x-1/layer.tar", "checkpoints/1000/.123/image/pages.img", "checkpoints/1000/.456/manifest.json"} {
		path = filepath.Join(n.cfg.StateDir, path)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, nil, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	mustKeep(t, n, n.start(t), 0)
}
