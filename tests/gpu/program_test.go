package gpu

import (
	"bufio"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"

	"brig/internal/nvidia"
	"brig/tests/node"
)

// compile builds a C file as the kit does.
func compile(t *testing.T, out, source string, flags ...string) {
	t.Helper()
	args := append([]string{"-std=c11", "-O2", "-Wall", "-Wextra", "-Werror", "-o", out, source}, flags...)
	if text, err := exec.CommandContext(t.Context(), "gcc", args...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
}

// TestProgram holds cuda-check to what it says of itself, with a stand-in for the driver
// that computes on the processor: what it starts is right, and wrong results are noticed.
// It says nothing about the kernels.
func TestProgram(t *testing.T) {
	if _, err := exec.LookPath("gcc"); err != nil {
		t.Skipf("this test requires gcc and libc6-dev: %v", err)
	}
	if _, err := os.Stat("cuda"); err != nil {
		t.Skipf("this test requires the repository: %v", err)
	}
	dir := t.TempDir()
	program := filepath.Join(dir, "cuda-check")
	compile(t, program, filepath.Join("cuda", "cuda-check.c"))
	for _, driver := range []string{"right", "wrong"} {
		if err := os.Mkdir(filepath.Join(dir, driver), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	source := filepath.Join("testdata", "driver.c")
	compile(t, filepath.Join(dir, "right", "libcuda.so.1"), source, "-shared", "-fPIC")
	compile(t, filepath.Join(dir, "wrong", "libcuda.so.1"), source, "-shared", "-fPIC", "-DWRONG")
	command := func(ctx context.Context, driver string, args ...string) *exec.Cmd {
		cmd := exec.CommandContext(ctx, program, args...)
		cmd.Env = []string{"LD_LIBRARY_PATH=" + filepath.Join(dir, driver)}
		return cmd
	}
	for _, test := range []struct {
		driver      string
		args        []string
		code        int
		out, errors string
	}{
		{"right", []string{"list"}, 0, `^GPU-a0a0a0a0-a0a0-a0a0-a0a0-a0a0a0a0a0a0\nGPU-a1a1a1a1-(a1a1-){3}a1a1a1a1a1a1\n$`, `^$`},
		{"right", []string{"add"}, 0, `^1048576 sums are right\n$`, `^$`},
		{"wrong", []string{"add"}, 1, `^$`, `^cuda-check: sum 0 is 1, not 0\n$`},
		{"right", []string{"product", "64", "3"}, 0, `^[0-9]+\.[0-9] GFLOP/s\n$`, `^$`},
		{"wrong", []string{"product", "64", "3"}, 1, `^$`, `^cuda-check: element [0-9]+, [0-9]+ is [0-9]+, not [0-9]+\n$`},
		{"right", []string{"product", "63", "3"}, 1, `^$`, `^cuda-check: want a multiple of 16`},
		{"right", []string{"fly"}, 1, `^$`, `^usage: `},
		{"none", []string{"add"}, 2, `^$`, `^cuda-check: there is no driver: `},
	} {
		if test.driver == "none" && len(nvidia.Libraries("/")) > 0 {
			continue // there is one
		}
		r := node.Run(t, command(t.Context(), test.driver, test.args...))
		if r.Code != test.code || !regexp.MustCompile(test.out).MatchString(r.Stdout) || !regexp.MustCompile(test.errors).MatchString(r.Stderr) {
			t.Errorf("driver %s: %s", test.driver, r)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	spin := command(ctx, "right", "spin")
	out, err := spin.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := spin.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "spinning\n" || err != nil {
		t.Errorf("%q, %v", line, err)
	}
	cancel()
	if err := spin.Wait(); err == nil || spin.ProcessState.Exited() {
		t.Errorf("it ended by itself: %v", spin.ProcessState)
	}
}
