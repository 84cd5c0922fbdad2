package runsc

import (
	"os/exec"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestStrays: who has the bundle in an argument ends, its neighbour does not.
func TestStrays(t *testing.T) {
	bundle := t.TempDir()
	stray := func(arg string) *exec.Cmd {
		cmd := exec.Command("sh", "-c", "sleep 1000; :", arg)
		cmd.SysProcAttr = &unix.SysProcAttr{Setpgid: true}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = unix.Kill(-cmd.Process.Pid, unix.SIGKILL); _ = cmd.Wait() })
		return cmd
	}
	var gone, stay []*exec.Cmd
	for _, arg := range []string{"--bundle=" + bundle, bundle, "--log=" + bundle + "/runsc-start.log"} {
		gone = append(gone, stray(arg))
	}
	for _, arg := range []string{"--bundle=" + bundle + "2", "/x" + bundle, "x"} {
		stay = append(stay, stray(arg))
	}
	began := time.Now()
	if err := KillStrays(bundle); err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took > strayTime {
		t.Errorf("took %v", took)
	}
	for _, cmd := range gone {
		if err := unix.Kill(cmd.Process.Pid, 0); err == nil {
			t.Errorf("%v is there", cmd.Args)
		}
	}
	for _, cmd := range stay {
		if err := unix.Kill(cmd.Process.Pid, 0); err != nil {
			t.Errorf("%v: %v", cmd.Args, err)
		}
	}
}
