package shim

import (
	"os"
	"path/filepath"
	"testing"

	bootapi "github.com/containerd/containerd/api/runtime/bootstrap/v1"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/errdefs"
)

// The verbs make paths of an id, and remove what is there.
func TestIDsThatAreNoIDs(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "bundle")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	ctx := namespaces.WithNamespace(t.Context(), "test")
	for _, id := range []string{"", "..", "a/b", "../../x"} {
		if _, err := (manager{}).Stop(ctx, id); !errdefs.IsInvalidArgument(err) {
			t.Errorf("delete %q: %v", id, err)
		}
		if _, err := (manager{}).Start(ctx, &bootapi.BootstrapParams{InstanceID: id}); !errdefs.IsInvalidArgument(err) {
			t.Errorf("start %q: %v", id, err)
		}
	}
}
