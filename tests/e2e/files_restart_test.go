package e2e

import (
	"archive/tar"
	"errors"
	"io"
	"testing"
	"time"

	"brig/tests/node"
)

// TestCopySurvivesRestart: brigd dies in the middle of a write; nothing of it stays.
func TestCopySurvivesRestart(t *testing.T) {
	t.Parallel()
	n := launch(t, node.Options{})
	id := n.Create(t, n.busybox)
	in, out := io.Pipe()
	cmd := n.BrigCommand(t.Context(), "cp", "-", id+":/tmp/half")
	cmd.Stdin = in
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	archive := tar.NewWriter(out)
	if err := archive.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "half", Size: 64 << 20, Mode: 0o644}); err != nil {
		t.Fatal(err)
	}
	if _, err := archive.Write(seeded(4<<20, 1)); err != nil {
		t.Fatal(err)
	}
	eventually(t, 10*time.Second, func() error {
		if inside(t, n.Node, id, "ls -A /tmp") == "" {
			return errors.New("nothing is under way")
		}
		return nil
	})
	if err := n.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = out.CloseWithError(io.ErrClosedPipe)
	_ = cmd.Wait()
	if err := n.Start(); err != nil {
		t.Fatal(err)
	}
	// The program inside takes a silent brigd for dead after 12 s.
	eventually(t, 30*time.Second, func() error {
		if left := inside(t, n.Node, id, "ls -A /tmp"); left != "" {
			return errors.New("left: " + left)
		}
		return nil
	})
	nothingWaits(t, n.Node, id)
}
