package task

import (
	"testing"

	"brig/internal/config"
	"brig/shim/bundle"

	"github.com/containerd/errdefs"
)

// An id names folders that are removed with all that is in them.
func TestIDsThatAreNoIDs(t *testing.T) {
	cfg := config.Defaults()
	cfg.RunDir = t.TempDir()
	for _, id := range []string{"", ".", "..", "../x", "a/b", "/", "a\x00b", "-a", "a+"} {
		s := New(Options{Namespace: "test", Gate: new(door)})
		b := bundle.Bundle(t.TempDir())
		if _, err := s.Create(t.Context(), CreateRequest{ID: id, Bundle: b, Config: &cfg}); !errdefs.IsInvalidArgument(err) {
			t.Errorf("task %q: %v", id, err)
		}
		if err := s.CreatePod(PodRequest{Pod: bundle.Pod{ID: id}, Bundle: b, Config: &cfg}); !errdefs.IsInvalidArgument(err) {
			t.Errorf("pod %q: %v", id, err)
		}
	}
}
