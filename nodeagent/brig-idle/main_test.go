package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"testing"
	"time"

	"brig/internal/require"
)

// The test binary is brig-idle when it is told so.
const env = "BRIG_IDLE_TEST_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(env) != "" {
		signals := listen()
		fmt.Println("ready")
		os.Exit(idle(signals))
	}
	os.Exit(m.Run())
}

func TestSignals(t *testing.T) {
	for signal, want := range map[syscall.Signal]int{syscall.SIGTERM: 143, syscall.SIGINT: 130} {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), env+"=1")
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if _, err := out.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Process.Signal(signal); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
		if got := cmd.ProcessState.ExitCode(); got != want {
			t.Errorf("%v: status %d; want %d", signal, got, want)
		}
	}
}

// As process 1 of a pid namespace it inherits an orphan, and reaps it.
func TestReapsOrphans(t *testing.T) {
	require.Root(t)
	// The shell becomes process 1, leaves an orphan that ends later, and then is
	// brig-idle; the orphan's parent tells what is left of it.
	script := `(sh -c 'sleep 0.1' &); exec "$0"`
	cmd := exec.Command("sh", "-c", script, os.Args[0])
	cmd.Env = append(os.Environ(), env+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	born := false
	for range tick.C {
		n := children(t, cmd.Process.Pid)
		born = born || n > 0
		if born && n == 0 {
			return
		}
	}
}

func children(t *testing.T, pid int) (n int) {
	t.Helper()
	f, err := os.Open("/proc/" + strconv.Itoa(pid) + "/task/" + strconv.Itoa(pid) + "/children")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	words := bufio.NewScanner(f)
	words.Split(bufio.ScanWords)
	for words.Scan() {
		n++
	}
	return n
}
