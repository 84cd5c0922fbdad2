// Package e2e drives a node the way its users do: the real brig, ctr, curl and
// API clients against the real brigd, containerd, shim, runsc and nft, with
// images pulled over the registry protocol from loopback.
//
// Most tests share one node, which is started by the first that needs it; tests
// that end a node, or need another configuration or network, start their own. The
// machine is compared before and after the whole suite.
package e2e

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"brig/internal/require"
	"brig/tests/census"
	"brig/tests/image/oci"
	"brig/tests/node"
	"brig/tests/registry"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

func TestMain(m *testing.M) {
	os.Exit(census.Around(func() int {
		code := m.Run()
		if err := errors.Join(shared.close(), node.RemoveCtrFolders()); err != nil {
			fmt.Fprintln(os.Stderr, "end of the shared node:", err)
			code = max(code, 1)
		}
		return code
	}))
}

// shared is the node that most tests use.
var shared fixture

// fixture is a node and a registry with the two images.
type fixture struct {
	once sync.Once
	err  error

	*node.Node
	registry *registry.Registry
	// python and busybox are the references by which the node pulls them.
	python, busybox string
}

// use returns the shared node, started.
func use(t *testing.T) *fixture {
	t.Helper()
	require.Runsc(t)
	shared.once.Do(func() { shared.err = shared.start() })
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return &shared
}

func (f *fixture) start() error {
	n, err := node.New(node.Options{})
	if err != nil {
		return err
	}
	f.Node = n
	var lc net.ListenConfig
	listener, err := lc.Listen(context.Background(), "tcp4", "127.0.0.1:0")
	if err != nil {
		return err
	}
	if err := f.serve(listener); err != nil {
		return err
	}
	return n.Start()
}

// serve starts the registry on listener and pushes the images.
func (f *fixture) serve(listener net.Listener) error {
	f.registry = registry.Serve(listener)
	for _, i := range []struct {
		recipe oci.Recipe
		name   string
		ref    *string
	}{
		{oci.Recipe{Python: true}, "brig/python:3", &f.python},
		{oci.Recipe{}, "brig/busybox:1", &f.busybox},
	} {
		img, err := image(i.recipe)
		if err != nil {
			return err
		}
		if *i.ref, err = f.registry.Push(i.name, img); err != nil {
			return err
		}
	}
	return nil
}

var images struct {
	mu   sync.Mutex
	made map[oci.Recipe]v1.Image // guarded by mu
}

func image(r oci.Recipe) (v1.Image, error) {
	images.mu.Lock()
	defer images.mu.Unlock()
	if img, ok := images.made[r]; ok {
		return img, nil
	}
	img, err := r.Image(context.Background())
	if err != nil {
		return nil, err
	}
	if images.made == nil {
		images.made = map[oci.Recipe]v1.Image{}
	}
	images.made[r] = img
	return img, nil
}

func (f *fixture) close() error {
	var errs []error
	if f.registry != nil {
		errs = append(errs, f.registry.Close())
	}
	if f.Node != nil {
		errs = append(errs, f.Stop())
	}
	return errors.Join(errs...)
}

// launch starts a fixture of the test's own, in the machine's network namespace.
func launch(t *testing.T, o node.Options) *fixture {
	t.Helper()
	require.Runsc(t)
	f := &fixture{Node: node.Launch(t, o)}
	var lc net.ListenConfig
	listener, err := lc.Listen(t.Context(), "tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := f.serve(listener); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.registry.Close() })
	return f
}

// eventually calls try every 50 ms until it succeeds, and fails the test with
// its last error after patience.
func eventually(t *testing.T, patience time.Duration, try func() error) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %v", patience, err)
		}
	}
}
