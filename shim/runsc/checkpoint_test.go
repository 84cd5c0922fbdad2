package runsc

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestVersion(t *testing.T) {
	r, _ := script(t, `test "$*" = --version && echo "runsc version 1.2-3"; echo spec: 1`)
	if v, err := r.Version(t.Context()); v != "1.2-3" || err != nil {
		t.Errorf("got %q, %v", v, err)
	}
	r, _ = script(t, "echo something else")
	if _, err := r.Version(t.Context()); err == nil || !strings.Contains(err.Error(), `"something else"`) {
		t.Errorf("an answer that is none: %v", err)
	}
}

// images that runsc writes, and that package checkpoint knows.
var images = []string{"checkpoint.img", "pages.img", "pages_meta.img"}

func TestContractCheckpointAndRestore(t *testing.T) {
	c, r, id, dir, sentry := startIn(t, "/bin/sh", "-c", "trap 'exit 7' TERM; while :; do sleep 0.1; done")
	image := filepath.Join(dir, "image")
	if err := c.Pause(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := r.Checkpoint(t.Context(), id, dir, image); err != nil {
		t.Fatalf("%+v", err)
	}
	var names []string
	entries, err := os.ReadDir(image)
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if err != nil || strings.Join(names, " ") != strings.Join(images, " ") {
		t.Errorf("image: %q, %v; want %q", names, err, images)
	}
	if err := c.Resume(t.Context()); err != nil {
		t.Errorf("it was paused before and is not any more: %v", err)
	}
	// A failure leaves it as it was.
	var f *Failure
	if err := r.Checkpoint(t.Context(), id, dir, image); !errors.As(err, &f) || !strings.Contains(f.Message, "file exists") {
		t.Errorf("checkpoint over a checkpoint: %+v", err)
	}
	if out, _ := shell(t, c, id, "echo alive", ""); out != "alive\n" {
		t.Errorf("after a checkpoint that failed: %q", out)
	}
	if err := c.Signal(t.Context(), id, 0, unix.SIGTERM, Process); err != nil {
		t.Error(err)
	}
	if status := ended(t, sentry); status.ExitStatus() != 7 {
		t.Errorf("the checkpointed program: %d, want 7", status.ExitStatus())
	}

	r, id, dir, sentry = boot(t, "/bin/sh", "-c", "trap 'exit 7' TERM; while :; do sleep 0.1; done")
	if err := r.Restore(t.Context(), id, dir, image, nil); err != nil {
		t.Fatalf("%+v", err)
	}
	c = NewControl(r.Root, id)
	if out, _ := shell(t, c, id, "echo alive", ""); out != "alive\n" {
		t.Errorf("exec in a restored sandbox: %q", out)
	}
	if err := c.Signal(t.Context(), id, 0, unix.SIGTERM, Process); err != nil {
		t.Error(err)
	}
	if status := ended(t, sentry); status.ExitStatus() != 7 {
		t.Errorf("the restored program: %d, want 7", status.ExitStatus())
	}
}

func TestContractRestoreComparesTheSpec(t *testing.T) {
	_, r, id, dir, _ := startIn(t, "/bin/sleep", "1000")
	image := filepath.Join(dir, "image")
	if err := r.Checkpoint(t.Context(), id, dir, image); err != nil {
		t.Fatalf("%+v", err)
	}
	r, id, dir, _ = boot(t, "/bin/true")
	var f *Failure
	if err := r.Restore(t.Context(), id, dir, image, nil); !errors.As(err, &f) || !strings.Contains(f.Message, `"Args" does not match`) {
		t.Errorf("another program: %+v", err)
	}
}
