package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"brig/tests/image/oci"
	"brig/tests/node"
)

// pythonClient is the folder of the client, and the command that runs python3 with it.
func pythonClient(t *testing.T) (dir string, python func(args ...string) *exec.Cmd) {
	t.Helper()
	root, err := oci.Root()
	if err != nil {
		t.Fatal(err)
	}
	dir = filepath.Join(root, "nodeagent", "clients", "python")
	return dir, func(args ...string) *exec.Cmd {
		cmd := exec.CommandContext(t.Context(), "python3", args...)
		// The repository is left as it is, and no proxy is between a test and its node.
		cmd.Env = append(os.Environ(), "PYTHONPATH="+dir, "PYTHONDONTWRITEBYTECODE=1", "PYTHONWARNINGS=error", "no_proxy=*")
		cmd.Dir = dir
		return cmd
	}
}

// TestPythonUnits compiles the client and runs its own tests.
func TestPythonUnits(t *testing.T) {
	t.Parallel()
	_, python := pythonClient(t)
	for _, args := range [][]string{
		{"-c", "import ast, sys; [compile(open(f).read(), f, 'exec', ast.PyCF_ONLY_AST) for f in sys.argv[1:]]", "brig.py", "test_brig.py"},
		{"-m", "unittest"},
	} {
		if r := node.Run(t, python(args...)); r.Code != 0 {
			t.Error(r)
		}
	}
	// Only the standard library is imported, by a python that has nothing else.
	if r := node.Run(t, python("-I", "-S", "-c", "import sys; sys.path.insert(0, '.'); import brig")); r.Code != 0 {
		t.Error(r)
	}
}

// TestPythonExample is the product model's: a sandbox with an encrypted port, its URL, and
// a request through it that the node's CA vouches for.
func TestPythonExample(t *testing.T) {
	t.Parallel()
	n := use(t)
	runPython(t, n, "example.py", n.python)
}

// TestPythonFiles reads and writes files.
func TestPythonFiles(t *testing.T) {
	t.Parallel()
	n := use(t)
	runPython(t, n, "files.py", n.busybox)
}

func script(t *testing.T, n *fixture, name string, args ...string) *exec.Cmd {
	t.Helper()
	_, python := pythonClient(t)
	path, err := filepath.Abs(filepath.Join("testdata", "python", name))
	if err != nil {
		t.Fatal(err)
	}
	cmd := python(append([]string{path}, args...)...)
	cmd.Env = append(cmd.Env, "BRIG_SOCKET="+n.Socket())
	return cmd
}

func runPython(t *testing.T, n *fixture, name string, args ...string) {
	t.Helper()
	if r := node.Run(t, script(t, n, name, args...)); r.Code != 0 {
		t.Error(r)
	}
}
