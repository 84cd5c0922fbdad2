// Package gpu drives a node with real GPUs the way its users do: brig and ctr against the
// real brigd, containerd, shim, runsc and NVIDIA's driver. It needs a GPU (internal/require)
// and nothing else of the machine: no network, no registry, no systemd. run.sh runs it where
// there is no Go either, from what `make gpu-kit` packs.
//
// The tests use all GPUs of the machine, one test at a time. cuda-check, a CUDA program
// that needs no toolkit, runs inside sandboxes and outside.
package gpu

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"brig/internal/nvidia"
	"brig/internal/require"
	"brig/tests/node"
)

// image is what tests/gpu/image makes.
const image = "brig.test/cuda:1"

// published is where a node writes its CDI specification for other callers.
const published = "/var/run/cdi/brig-nvidia.json"

func TestMain(m *testing.M) {
	os.Exit(func() int {
		_, err := os.Stat(published)
		foreign := err == nil
		code := m.Run()
		if shared.Node == nil {
			return code // others may be at work
		}
		errs := []error{shared.stop(), node.RemoveCtrFolders()}
		if !foreign {
			errs = append(errs, os.RemoveAll(published))
		}
		if err := errors.Join(errs...); err != nil {
			fmt.Fprintln(os.Stderr, "end of the node:", err)
			code = max(code, 1)
		}
		return code
	}())
}

// shared is the node that most tests use.
var shared fixture

// fixture is a node that has the image, on a machine with these GPUs.
type fixture struct {
	once sync.Once
	err  error

	*node.Node
	started bool
	gpus    []nvidia.GPU
}

// use returns the shared node, started.
func use(t *testing.T) *fixture {
	t.Helper()
	bin := require.GPU(t)
	shared.once.Do(func() { shared.err = shared.start(bin, fmt.Sprintf("publish = %q\n", published)) })
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return &shared
}

// launch starts a node of the test's own, with these settings of the section [gpu].
func launch(t *testing.T, settings string) *fixture {
	t.Helper()
	f := &fixture{}
	t.Cleanup(func() {
		if err := f.stop(); err != nil {
			t.Error(err)
		}
	})
	if err := f.start(require.GPU(t), settings); err != nil {
		t.Fatal(err)
	}
	return f
}

func (f *fixture) start(bin, settings string) (err error) {
	overrides := fmt.Sprintf("[gpu]\ngenerator = %q\n%s", filepath.Join(bin, "deps", "brig-nvcdi"), settings)
	if f.Node, err = node.New(node.Options{Overrides: overrides}); err != nil {
		return err
	}
	if err := f.Start(); err != nil {
		return err
	}
	f.started = true
	if f.gpus, err = known(time.Minute); err != nil {
		return err
	}
	out, err := f.BrigCommand(context.Background(), "image", "import", filepath.Join(bin, "gpu", "image.tar")).CombinedOutput()
	if err != nil {
		return fmt.Errorf("import the image: %w: %s", err, out)
	}
	return nil
}

// known are the machine's GPUs, once the driver has looked at each: until somebody has used
// one, brigd for example, it does not know its UUID.
func known(patience time.Duration) ([]nvidia.GPU, error) {
	for begun := time.Now(); ; time.Sleep(100 * time.Millisecond) {
		gpus, err := nvidia.GPUs("/proc")
		unknown := slices.ContainsFunc(gpus, func(g nvidia.GPU) bool { return strings.Contains(g.UUID, "?") })
		switch {
		case err != nil:
			return nil, err
		case len(gpus) == 0:
			return nil, errors.New("the driver serves no GPU")
		case !unknown:
			return gpus, nil
		case time.Since(begun) > patience:
			return nil, fmt.Errorf("the driver does not tell the UUIDs of its GPUs: %v", gpus)
		}
	}
}

// stop ends the node. What it leaves can be looked for only where there are programs that
// show it; a bare machine has none.
func (f *fixture) stop() error {
	if f.Node == nil {
		return nil
	}
	var errs []error
	for _, program := range []string{"nft", "ip"} {
		if _, err := exec.LookPath(program); err != nil && f.started {
			errs = append(errs, f.Terminate())
			break
		}
	}
	return errors.Join(append(errs, f.Stop())...)
}

// uuids of the machine's GPUs, by minor number.
func (f *fixture) uuids() (uuids []string) {
	for _, g := range f.gpus {
		uuids = append(uuids, g.UUID)
	}
	return uuids
}

// outside runs cuda-check on the host, with the C library that the image has, too: the
// host's own may be older than the program.
func (f *fixture) outside(t *testing.T, args ...string) node.Result {
	t.Helper()
	folders := []string{filepath.Join(f.Bin, "gpu", "lib")}
	for path := range nvidia.Libraries("/") {
		folders = append(folders, filepath.Dir(path))
	}
	loader := filepath.Join(f.Bin, "gpu", "lib", "ld-linux-x86-64.so.2")
	args = append([]string{"--library-path", strings.Join(folders, ":"), filepath.Join(f.Bin, "gpu", "cuda-check")}, args...)
	return node.Run(t, f.Command(t.Context(), append([]string{loader}, args...)...))
}

// eventually calls try until it succeeds, and fails the test with its last error after
// patience. It returns how long that took.
func eventually(t *testing.T, patience time.Duration, try func() error) time.Duration {
	t.Helper()
	for begun := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		err := try()
		took := time.Since(begun)
		if err == nil {
			return took
		}
		if took > patience {
			t.Fatalf("not within %v: %v", patience, err)
		}
	}
}
