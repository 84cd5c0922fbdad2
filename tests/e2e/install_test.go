package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"brig/internal/require"
	"brig/tests/census"
	"brig/tests/image/oci"
	"brig/tests/node"
)

// TestInstallDryRun prints each step of both directions and changes nothing.
func TestInstallDryRun(t *testing.T) {
	require.Runsc(t)
	root, err := oci.Root()
	if err != nil {
		t.Fatal(err)
	}
	before, err := census.Take()
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		args []string
		want []string
	}{
		{[]string{"--dry-run"}, []string{"[1] ", "make", "/usr/local/bin/brigd", "/usr/local/share/man/man1/", "/usr/local/share/zsh/site-functions/_brig", "/etc/brig/config.toml", "done"}},
		{[]string{"--dry-run", "--cni-default"}, []string{"/etc/cni/net.d/"}},
		{[]string{"--uninstall", "--dry-run"}, []string{"[1] ", "/usr/local/bin/brigd", "/usr/local/share/bash-completion/completions/brig", "/var/lib/brig"}},
	} {
		cmd := exec.CommandContext(t.Context(), filepath.Join(root, "install.sh"), tc.args...)
		r := node.Run(t, cmd)
		for _, want := range tc.want {
			if r.Code != 0 || !strings.Contains(r.Stdout, want) {
				t.Errorf("want status 0 and %q: %s", want, r)
			}
		}
	}
	if diff, err := census.Settle(t.Context(), before, 0); err != nil || diff != "" {
		t.Errorf("a dry run changed the machine: %v\n%s", err, diff)
	}
	for _, args := range [][]string{{"--frobnicate"}, {"--force"}, {"--uninstall", "--cni-default"}, {"--from"}} {
		cmd := exec.CommandContext(t.Context(), filepath.Join(root, "install.sh"), append(args, "--dry-run")...)
		if r := node.Run(t, cmd); r.Code == 0 || !strings.HasPrefix(r.Stderr, "install.sh: ") {
			t.Errorf("want a refusal: %s", r)
		}
	}
}

// machineScript makes a machine to install on: mount, network and process
// namespaces of its own, in which /etc, /usr/local and /opt can be written without
// the real ones changing, and /run, /var/lib and /var/log are empty.
const machineScript = `set -e
mount --make-rprivate /
mount -t proc proc /proc
for d in etc usr/local opt; do
  up=$SCRATCH/up/$d
  mkdir -p "$up/files" "$up/work"
  mount -t overlay overlay -o "lowerdir=/$d,upperdir=$up/files,workdir=$up/work" "/$d"
done
mkdir -p "$SCRATCH/lib"
mount --bind "$SCRATCH/lib" /var/lib
mount -t tmpfs tmpfs /var/log
mount -t tmpfs tmpfs /run
rm -rf /etc/brig /etc/cni /usr/local/bin/brig* /usr/local/bin/containerd-shim-brig-v1 /usr/local/libexec/brig /opt/cni
rm -rf /usr/local/share/{brig,man/man1,bash-completion,zsh,fish}
ip link set lo up
"$@"
exit $?` // the shell stays: somebody has to reap

// TestInstall installs from an archive of `make dist`, uses the node as its
// operator would, installs again over it and removes it: on a machine of its own
// (see machineScript), where TestInstallInside does the work.
func TestInstall(t *testing.T) {
	require.Net(t)
	require.Runsc(t)
	root, err := oci.Root()
	if err != nil {
		t.Fatal(err)
	}
	dist := exec.CommandContext(t.Context(), filepath.Join(root, "deploy", "dist.sh"), "0.0.0-e2e")
	dist.Dir = root
	r := node.Run(t, dist)
	if r.Code != 0 {
		t.Fatal(r)
	}
	archive := filepath.Join(root, strings.TrimSpace(r.Stdout[strings.LastIndex(strings.TrimSpace(r.Stdout), "\n")+1:]))
	defer os.Remove(archive)
	defer os.Remove(archive + ".sha256")

	scratch, err := os.MkdirTemp("/tmp", "brig-install-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(scratch)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "unshare", "--mount", "--net", "--pid", "--ipc", "--fork", "--kill-child", "--",
		"bash", "-c", machineScript, "bash", self, "-test.run", "^TestInstallInside$", "-test.v")
	cmd.Env = append(os.Environ(), "SCRATCH="+scratch, insideEnv+"="+archive, "TMPDIR=/tmp")
	r = node.Run(t, cmd)
	if r.Code != 0 {
		t.Fatal(r.Stdout + r.Stderr)
	}
	t.Log(r.Stdout)
}

// insideEnv tells TestInstallInside that it is where it may install, and what.
const insideEnv = "BRIG_E2E_INSTALL_ARCHIVE"

// share is where documents go, and documents holds a word of each.
const share = "/usr/local/share"

var documents = map[string]string{
	"man/man1/brig.1":                     ".TH",
	"man/man1/brig-create.1":              "idle-timeout",
	"bash-completion/completions/brig":    "complete",
	"zsh/site-functions/_brig":            "#compdef brig",
	"fish/vendor_completions.d/brig.fish": "complete -c brig",
	"brig/grafana/brig.json":              "brig_execs_running",
	"brig/prometheus/brig.rules.yml":      "BrigIsolationEscaped",
}

// TestInstallInside runs in the machine that TestInstall makes, and only there.
func TestInstallInside(t *testing.T) {
	archive := os.Getenv(insideEnv)
	if archive == "" {
		return // TestInstall runs it where it may
	}
	root, err := oci.Root()
	if err != nil {
		t.Fatal(err)
	}
	install := func(args ...string) node.Result {
		return node.Run(t, exec.CommandContext(t.Context(), filepath.Join(root, "install.sh"), args...))
	}
	brig := func(args ...string) string {
		t.Helper()
		r := node.Run(t, exec.CommandContext(t.Context(), "/usr/local/bin/brig", args...))
		if r.Code != 0 {
			t.Fatal(r)
		}
		return r.Stdout
	}
	before, err := census.Take()
	if err != nil {
		t.Fatal(err)
	}
	shared, err := os.ReadDir(share)
	if err != nil {
		t.Fatal(err)
	}

	r := install("--from", archive, "--cni-default")
	if r.Code != 0 {
		t.Fatal(r)
	}
	for _, want := range []string{"created", "kernel", "exec", "name", "tunnel", "blocked"} {
		if !strings.Contains(r.Stdout, want) {
			t.Errorf("the installer's check does not speak of %q:\n%s", want, r.Stdout)
		}
	}
	t.Log(r.Stdout)
	for path, want := range documents {
		if text, err := os.ReadFile(filepath.Join(share, path)); err != nil || !strings.Contains(string(text), want) {
			t.Errorf("%s: %v, or it lacks %q", path, err, want)
		}
	}
	importBusybox(t, "/usr/local/bin/brig")
	id := strings.TrimSpace(brig("create", ctrImage))

	if r := install("--from", archive, "--no-check"); r.Code != 0 {
		t.Fatalf("installed again: %s", r)
	}
	if got := brig("exec", id, "--", "echo", "here"); got != "here\n" {
		t.Errorf("a sandbox after an upgrade: %q", got)
	}
	if r := install("--uninstall"); r.Code == 0 || !strings.Contains(r.Stderr, "--force") {
		t.Errorf("uninstalled under a living sandbox: %s", r)
	}
	if got := brig("exec", id, "--", "echo", "here"); got != "here\n" {
		t.Errorf("a sandbox after a refused uninstall: %q", got)
	}
	if r := install("--uninstall", "--force"); r.Code != 0 {
		t.Errorf("uninstall: %s", r)
	}
	diff, err := census.Settle(t.Context(), before, census.Patience)
	if err != nil || diff != "" {
		t.Errorf("uninstall left: %v\n%s", err, diff)
	}
	if r := install("--uninstall"); r.Code != 0 {
		t.Errorf("uninstalled twice: %s", r)
	}
	if r := install("--from", archive, "--no-check"); r.Code != 0 {
		t.Fatalf("installed after an uninstall: %s", r)
	}
	if r := install("--uninstall"); r.Code != 0 {
		t.Errorf("uninstall without sandboxes: %s", r)
	}
	if left, err := os.ReadDir(share); err != nil || fmt.Sprint(left) != fmt.Sprint(shared) {
		t.Errorf("%s holds %v after the uninstall, and %v before: %v", share, left, shared, err)
	}
	diff, err = census.Settle(t.Context(), before, census.Patience)
	if err != nil || diff != "" {
		t.Errorf("the second uninstall left: %v\n%s", err, diff)
	}
}

func importBusybox(t *testing.T, brig string) {
	t.Helper()
	img, err := image(oci.Recipe{})
	if err != nil {
		t.Fatal(err)
	}
	archive := filepath.Join(t.TempDir(), "image.tar")
	if err := oci.WriteArchive(archive, ctrImage, img); err != nil {
		t.Fatal(err)
	}
	if r := node.Run(t, exec.CommandContext(t.Context(), brig, "image", "import", archive)); r.Code != 0 {
		t.Fatal(r)
	}
}
