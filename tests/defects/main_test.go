// Package defects has a test for each of the fifteen things that gVisor's own shim gets
// wrong, by what a client of containerd sees of them. tests/README.md lists them.
//
// The same tests run against the shim that has the defects:
//
//	go test ./tests/defects -gvisor
//
// builds it, and then a test fails if its defect does not show. So nobody has to
// believe that a test would notice. What works around a defect that would hide another
// one is given to gVisor's shim in every test but its own.
package defects

import (
	"context"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"brig/internal/require"
	"brig/tests/census"
)

var gvisor = flag.Bool("gvisor", false, "build gVisor's own shim and judge it: every defect must show")

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(census.Around(func() int {
		if !*gvisor {
			return m.Run()
		}
		code, err := withPeers(m.Run)
		if err != nil {
			fmt.Fprintln(os.Stderr, "build gVisor's shim:", err)
		}
		return code
	}))
}

// patience is what a test may take; a hang is a defect, too.
const patience = 20 * time.Second

// trial drives the shim of a node and returns what is wrong with it.
type trial func(ctx context.Context, n *node) error

// judge runs a trial on a node of its own.
func judge(t *testing.T, try trial) {
	t.Helper()
	judgeOn(t, options{}, try)
}

func judgeOn(t *testing.T, o options, try trial) {
	t.Helper()
	t.Parallel()
	require.Runsc(t)
	n := launch(t, o)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	switch err := try(n.context(ctx), n); {
	case *gvisor && err == nil:
		t.Error("gVisor's shim does not show this defect: the test proves nothing, or gVisor has mended it")
	case *gvisor:
		t.Logf("gVisor's shim: %v", err)
	case err != nil:
		t.Error(err)
	}
}

// fails returns nil if err is one that names a thing.
func fails(err error, name string) error {
	switch {
	case err == nil:
		return fmt.Errorf("no error, want one that names %s", name)
	case !strings.Contains(err.Error(), name):
		return fmt.Errorf("an error that does not name %s: %w", name, err)
	}
	return nil
}

// eventually calls try every 50 ms until it succeeds or ctx has ended, and returns its
// last error.
func eventually(ctx context.Context, try func() error) error {
	for {
		err := try()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("in vain: %w", err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}
