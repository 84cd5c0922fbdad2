// Package require lets a test state what it needs of the machine. Where that is
// missing the test is skipped with the reason, so that `make check` works for
// anybody; where the environment variable BRIG_REQUIRE names the requirement, as
// `make test` does, a missing one is a failure, so that nothing is skipped silently.
package require

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Env lists the requirements that must not be missing, separated by commas: root,
// net, runsc, containerds, gpu.
const Env = "BRIG_REQUIRE"

// Root needs uid 0 with its capabilities.
func Root(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		missing(t, "root", "run it as root")
	}
}

// Net needs root, nft and ip: the test makes network namespaces and rules in them.
func Net(t testing.TB) {
	t.Helper()
	Root(t)
	for _, program := range []string{"nft", "ip"} {
		if _, err := exec.LookPath(program); err != nil {
			missing(t, "net", "install "+program)
		}
	}
}

// Runsc needs root and the programs that `make build deps` puts into the
// repository's bin folder, whose path it returns.
func Runsc(t testing.TB) string {
	t.Helper()
	Root(t)
	bin := binFolder()
	for _, program := range []string{"deps/runsc", "deps/gvisor-bin/gvisor_sentry"} {
		if _, err := os.Stat(filepath.Join(bin, program)); err != nil {
			missing(t, "runsc", "run `make build deps`")
		}
	}
	return bin
}

// Containerds needs what Runsc needs and the older containerds that `make compat`
// builds, too. It returns the repository's bin folder.
func Containerds(t testing.TB) string {
	t.Helper()
	bin := Runsc(t)
	for _, version := range []string{"1.7", "2.1", "2.2"} {
		if _, err := os.Stat(filepath.Join(bin, "deps", "containerd-"+version, "ctr")); err != nil {
			missing(t, "containerds", "run `make compat`")
		}
	}
	return bin
}

// GPU needs what Runsc needs, a driver of NVIDIA's that is loaded, and what `make gpu-kit`
// builds. It returns the bin folder, of the repository or of a kit.
func GPU(t testing.TB) string {
	t.Helper()
	bin := Runsc(t)
	for _, file := range []string{"cuda-check", "image.tar"} {
		if _, err := os.Stat(filepath.Join(bin, "gpu", file)); err != nil {
			missing(t, "gpu", "run `make gpu-kit`")
		}
	}
	if _, err := os.Stat("/proc/driver/nvidia/version"); err != nil {
		missing(t, "gpu", "use a machine with an NVIDIA GPU, whose driver is loaded")
	}
	return bin
}

// binFolder stands beside the go.mod that is nearest above the working directory.
func binFolder() string {
	dir, err := os.Getwd()
	for err == nil && dir != "/" {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			break
		}
		dir = filepath.Dir(dir)
	}
	return filepath.Join(dir, "bin")
}

func missing(t testing.TB, requirement, remedy string) {
	t.Helper()
	if slices.Contains(strings.Split(os.Getenv(Env), ","), requirement) {
		t.Fatalf("this test requires %s, and %s says that it must be there: %s", requirement, Env, remedy)
	}
	t.Skipf("this test requires %s: %s", requirement, remedy)
}
