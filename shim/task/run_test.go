package task

import (
	"path/filepath"
	"slices"
	"testing"

	"brig/internal/journal"
	"brig/shim/stdio"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// TestRunExec: a program runs in one call; what does not come to run is not known.
func TestRunExec(t *testing.T) {
	f := setUp(t, "sleep", "1000")
	id := f.request.ID
	f.must(f.create())
	f.must(f.start())
	dir := t.TempDir()
	run := func(execID string, argv ...string) error {
		out := journal.Spec{Path: filepath.Join(dir, execID), Max: 2 * journal.Chunk, Block: true, Late: true}
		return f.RunExec(f.soon(), id, execID, &specs.Process{Args: argv, Cwd: "/", Env: f.spec.Process.Env}, stdio.Config{Stdout: out.URI(), ID: execID})
	}
	f.must(run("silent", "true"))
	f.must(run("talks", "echo", "word"))
	f.must(run("stays", "sleep", "1000"))
	if err := run("none", "/no/such/program"); err == nil {
		t.Error("what is not there runs")
	}
	if err := run("talks", "true"); !errdefs.IsAlreadyExists(err) {
		t.Errorf("a name that is taken: %v", err)
	}
	for _, execID := range []string{"silent", "talks"} {
		exit, err := f.Wait(f.soon(), id, execID)
		if err != nil || exit.Code != 0 {
			t.Errorf("%s: %v, %v", execID, exit, err)
		}
	}
	if _, err := f.Wait(f.soon(), id, "none"); !errdefs.IsNotFound(err) {
		t.Errorf("what did not run: %v", err)
	}
	if got, _ := filepath.Glob(filepath.Join(dir, "*")); !slices.Equal(got, []string{filepath.Join(dir, "talks")}) {
		t.Errorf("journals %q; want that of the one that talks", got)
	}
	f.must(f.Kill(f.soon(), id, "stays", unix.SIGKILL, false))
	if exit, err := f.Wait(f.soon(), id, "stays"); err != nil || exit.Code != killed {
		t.Errorf("%v, %v", exit, err)
	}
}
