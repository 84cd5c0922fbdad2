package crash

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"connectrpc.com/connect"

	"brig/internal/require"
	brigv1 "brig/nodeagent/api/brig/v1"
	"brig/tests/driver"
	"brig/tests/image/oci"
	testnode "brig/tests/node"
)

// TestBrigdKilledWithAGPU kills brigd in the middle of creates that hold a GPU which is not
// there. After a restart it is nobody's, and can be asked for again.
func TestBrigdKilledWithAGPU(t *testing.T) {
	t.Parallel()
	require.Root(t)
	dir, err := oci.Root()
	if err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	if err := driver.Make(root); err != nil {
		t.Fatal(err)
	}
	a := launchAgent(t, testnode.Options{Failpoints: true, Overrides: driver.Overrides(filepath.Join(dir, "bin"), root)})
	if err := os.WriteFile(filepath.Join(a.Dir, "skips"), []byte("gpu.check"), 0o600); err != nil {
		t.Fatal(err)
	}
	eventually(t, patience, func() error { return a.allFree() })
	request := func() *brigv1.CreateRequest {
		return &brigv1.CreateRequest{Gpu: &brigv1.GPURequest{Devices: []string{"5"}}}
	}
	for _, step := range []string{"create.recorded", "create.attached", "create.container"} {
		if err := a.Arm(step); err != nil {
			t.Fatal(err)
		}
		asked := make(chan error, 1)
		go func() {
			_, err := a.make(ask(t), request())
			asked <- err
		}()
		if err := a.Died(patience); err != nil {
			t.Fatalf("armed at %s: %v", step, err)
		}
		if err := <-asked; err == nil {
			t.Errorf("%s: a create that brigd died in is acknowledged", step)
		}
		a.restart(t)
		eventually(t, patience, func() error { return a.allFree() })
	}
	// Nothing of it works here, so this one ends too, and gives back what it had.
	if s, err := a.make(ask(t), request()); err == nil {
		t.Errorf("a sandbox with a GPU that is not there: %v", s)
	}
	if err := a.allFree(); err != nil {
		t.Error(err)
	}
	a.converges(t, recovery)
}

func (a *agent) allFree() error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	res, err := a.Client.Node.Info(ctx, connect.NewRequest(&brigv1.InfoRequest{}))
	if err != nil {
		return err
	}
	free := 0
	for _, g := range res.Msg.GetGpus() {
		if g.GetFree() && len(g.GetSandboxes()) == 0 {
			free++
		}
	}
	if free != driver.GPUs {
		return fmt.Errorf("%d of %d are free: %v", free, driver.GPUs, res.Msg.GetGpuUnavailable())
	}
	return nil
}
