package e2e

import (
	"bufio"
	"errors"
	"io"
	"os"
	"testing"

	"brig/tests/node"
)

// TestPythonExec runs programs, with their streams.
func TestPythonExec(t *testing.T) {
	t.Parallel()
	n := use(t)
	runPython(t, n, "exec.py", n.busybox)
}

// TestPythonOverRestart: brigd is killed twice while a program's streams flow both ways.
// The script compares what it gets, byte for byte, and says when to kill.
func TestPythonOverRestart(t *testing.T) {
	t.Parallel()
	n := launch(t, node.Options{})
	cmd := script(t, n, "restart.py", n.busybox)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	said := bufio.NewScanner(stdout)
	kills := 0
	for said.Scan() {
		if said.Text() != "kill" {
			t.Log(said.Text())
			continue
		}
		kills++
		if err := errors.Join(n.Kill(), n.Start()); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(stdin, "killed\n"); err != nil {
			t.Fatal(err)
		}
	}
	if err := cmd.Wait(); err != nil || kills != 2 {
		t.Errorf("%v after %d kills", err, kills)
	}
}
