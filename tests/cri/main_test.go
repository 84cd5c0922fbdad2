// Package cri judges brig as a Kubernetes runtime: what a kubelet asks of a node, asked
// of the CRI plugin of a real containerd, over its socket, in the kubelet's words.
//
// Every test runs a pod under one handler of the node's; those that any runtime must
// pass run under all of them, and runc is the proof that the test asks for what a node
// gives. Most tests share one node, which lives in a network namespace of its own.
package cri

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"

	"brig/internal/require"
	"brig/tests/census"
	ctr "brig/tests/node"
)

// Handlers of the node, as RunPodSandbox names them.
const (
	runc = "runc" // on a plain network, with a pause container

	brig           = "brig"            // the shim is the sandbox, on brig's network
	brigPlain      = "brig-plain"      // the same on a plain network
	brigPodsandbox = "brig-podsandbox" // with a pause container
	brigGPU        = "brig-gpu"        // sandboxes with NVIDIA's driver, on a plain network

	// The same with a configuration of their own, whose policy is narrower.
	brigNarrow           = "brig-narrow"
	brigNarrowPodsandbox = "brig-narrow-podsandbox"
)

func TestMain(m *testing.M) {
	os.Exit(census.Around(func() int {
		code := m.Run()
		if err := errors.Join(shared.close(), removeCNICache(), ctr.RemoveCtrFolders()); err != nil {
			fmt.Fprintln(os.Stderr, "end of the shared node:", err)
			code = max(code, 1)
		}
		return code
	}))
}

// shared is the node that most tests use.
var shared struct {
	sharedNode
	once sync.Once
	err  error
}

// use returns the shared node, started by the first who asks.
func use(t *testing.T) *node {
	t.Helper()
	require.Net(t)
	require.Runsc(t)
	shared.once.Do(func() { shared.err = shared.start() })
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return shared.node
}

// under runs a test under each of some handlers of the shared node.
func under(t *testing.T, handlers []string, test func(t *testing.T, n *node, handler string)) {
	t.Helper()
	n := use(t)
	for _, h := range handlers {
		t.Run(h, func(t *testing.T) {
			t.Parallel()
			test(t, n, h)
		})
	}
}

var (
	all     = []string{runc, brig, brigPlain, brigPodsandbox}
	gvisors = []string{brig, brigPlain, brigPodsandbox}
)
