package compat

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"brig/internal/require"
	"brig/internal/sandbox"
	"brig/tests/image/oci"
	"brig/tests/node"

	"golang.org/x/sys/unix"
)

// versions and the folder of each in bin/deps.
var versions = map[string]string{"2.4": "", "2.2": "containerd-2.2", "2.1": "containerd-2.1", "1.7": "containerd-1.7"}

// eachVersion runs a test with a containerd of its own for every version.
func eachVersion(t *testing.T, test func(*testing.T, *containerd)) {
	bin := require.Containerds(t)
	for version, folder := range versions {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			test(t, launch(t, version, bin, folder))
		})
	}
}

// containerd is one that shares nothing with another on the machine but the folder of
// shims' sockets: before 2.3 that cannot be chosen.
type containerd struct {
	version  string
	dir, bin string // of the test; of brig
	programs string
	daemon   *exec.Cmd
}

const image = "brig.test/busybox:1"

// namespace of containerd. The cgroups of ctr's containers are named by it.
func (c *containerd) namespace() string { return filepath.Base(c.dir) }

// Version 2 is the newest format that all read, and they translate the old names of
// its plugins. CRI, NRI and the restart monitor have their own suites.
const daemonConfig = `version = 2
root = "%[1]s/root"
state = "%[1]s/state"
disabled_plugins = [
  "io.containerd.grpc.v1.cri", "io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime",
  "io.containerd.podsandbox.controller.v1.podsandbox", "io.containerd.nri.v1.nri", "io.containerd.internal.v1.opt",
  "io.containerd.monitor.container.v1.restart", "io.containerd.internal.v1.restart",
]
[grpc]
  address = "%[1]s/c.sock"
[ttrpc]
  address = "%[1]s/c.sock.ttrpc"
`

const brigConfig = `node = "%s"
state_dir = "%[2]s/brig"
run_dir = "%[2]s/b"
[runsc]
path = "%[3]s/deps/runsc"
`

func launch(t *testing.T, version, bin, folder string) *containerd {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "compat-")
	if err != nil {
		t.Fatal(err)
	}
	c := &containerd{version: version, dir: dir, bin: bin, programs: filepath.Join(bin, "deps", folder)}
	t.Cleanup(func() { c.clear(t) })
	c.write(t, "containerd.toml", fmt.Sprintf(daemonConfig, dir))
	c.write(t, "brig.toml", fmt.Sprintf(brigConfig, "v"+strings.ReplaceAll(version, ".", ""), dir, bin))
	c.start(t)
	t.Cleanup(func() { c.stop(t) })
	img, err := oci.Recipe{}.Image(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	archive := filepath.Join(dir, "image.tar")
	if err := oci.WriteArchive(archive, image, img); err != nil {
		t.Fatal(err)
	}
	c.ctr(t, "images", "import", archive)
	return c
}

func (c *containerd) write(t *testing.T, name, content string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(c.dir, name), []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (c *containerd) env() []string {
	return append(os.Environ(), "PATH="+c.bin+":"+os.Getenv("PATH"), "BRIG_CONFIG="+filepath.Join(c.dir, "brig.toml"))
}

func (c *containerd) start(t *testing.T) {
	t.Helper()
	log, err := os.OpenFile(filepath.Join(c.dir, "log"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	c.daemon = exec.Command(filepath.Join(c.programs, "containerd"), "--config", filepath.Join(c.dir, "containerd.toml"))
	c.daemon.Env, c.daemon.Stdout, c.daemon.Stderr = c.env(), log, log
	if err := c.daemon.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, time.Minute, func() error {
		if r := c.try(t, "version"); r.Code != 0 {
			return fmt.Errorf("%s", r)
		}
		return nil
	})
}

// stop ends the daemon; shims go on.
func (c *containerd) stop(t *testing.T) {
	t.Helper()
	if err := c.daemon.Process.Signal(syscall.SIGTERM); err != nil {
		t.Error(err)
	}
	_ = c.daemon.Wait() // how it ends is its own affair
	if t.Failed() {
		log, _ := os.ReadFile(filepath.Join(c.dir, "log"))
		lines := strings.Split(string(log), "\n")
		t.Logf("containerd %s:\n%s", c.version, strings.Join(lines[max(0, len(lines)-20):], "\n"))
	}
}

// clear takes away what is left, of a test that failed most of all.
func (c *containerd) clear(t *testing.T) {
	t.Helper()
	// A shim whose containerd has gone tries for a while to deliver its last events.
	for deadline := time.Now().Add(5 * time.Second); len(processes(t, c.dir+"/")) > 0 && time.Now().Before(deadline); {
		time.Sleep(50 * time.Millisecond)
	}
	for _, pid := range processes(t, c.dir+"/") {
		n, _ := strconv.Atoi(pid)
		_ = unix.Kill(n, unix.SIGKILL)
	}
	mounts, _ := os.ReadFile("/proc/self/mountinfo")
	for line := range strings.Lines(string(mounts)) { // runsc keeps its null namespace mounted
		if f := strings.Fields(line); len(f) > 4 && strings.HasPrefix(f[4], c.dir+"/") {
			_ = unix.Unmount(f[4], unix.MNT_DETACH)
		}
	}
	// Of cgroups runsc removes the containers', but not the namespace's.
	groups, _ := filepath.Glob("/sys/fs/cgroup/*/" + c.namespace())
	for _, group := range append(groups, "/sys/fs/cgroup/"+c.namespace()) {
		_ = unix.Rmdir(group)
	}
	if err := os.RemoveAll(c.dir); err != nil {
		t.Error(err)
	}
}

// try runs the version's ctr, however it ends.
func (c *containerd) try(t *testing.T, args ...string) node.Result {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(c.programs, "ctr"),
		append([]string{"--address", filepath.Join(c.dir, "c.sock"), "--namespace", c.namespace()}, args...)...)
	return node.Run(t, cmd)
}

// ctr runs the version's ctr, which must succeed.
func (c *containerd) ctr(t *testing.T, args ...string) string {
	t.Helper()
	r := c.try(t, args...)
	if r.Code != 0 {
		t.Fatal(r)
	}
	return r.Stdout
}

// run is ctr run.
func (c *containerd) run(t *testing.T, flags []string, id string, argv ...string) node.Result {
	t.Helper()
	return c.try(t, append(append(append([]string{"run", "--runtime", sandbox.Runtime}, flags...), image, id), argv...)...)
}

// detach is ctr run -d, which must succeed; the container goes with the test.
func (c *containerd) detach(t *testing.T, flags []string, id string, argv ...string) {
	t.Helper()
	if r := c.run(t, append(flags, "--detach"), id, argv...); r.Code != 0 {
		t.Fatal(r)
	}
	t.Cleanup(func() {
		c.try(t, "tasks", "delete", "--force", id)
		c.try(t, "containers", "delete", id)
	})
}

// task is the line of ctr tasks ls: pid and state; empty: there is none.
func (c *containerd) task(t *testing.T, id string) (pid, state string) {
	t.Helper()
	for line := range strings.Lines(c.ctr(t, "tasks", "ls")) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == id {
			return f[1], f[2]
		}
	}
	return "", ""
}

// expectExit deletes a task; ctr then tells its exit status in words.
func (c *containerd) expectExit(t *testing.T, id string, want int) {
	t.Helper()
	r := c.try(t, "tasks", "delete", id)
	if r.Code != 0 || !strings.Contains(r.Stderr, fmt.Sprintf("task %s exit with non-zero exit code %d", id, want)) {
		t.Errorf("want exit status %d: %s", want, r)
	}
}

func (c *containerd) awaitState(t *testing.T, id, want string) {
	t.Helper()
	eventually(t, 20*time.Second, func() error {
		if _, got := c.task(t, id); got != want {
			return fmt.Errorf("task %s is %q, want %q", id, got, want)
		}
		return nil
	})
}

// bundle is the folder of a task.
func (c *containerd) bundle(id string) string {
	return filepath.Join(c.dir, "state", "io.containerd.runtime.v2.task", c.namespace(), id)
}

// processes whose command line has all of words.
func processes(t *testing.T, words ...string) (pids []string) {
	t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range all {
		b, _ := os.ReadFile(file) // it may have gone
		cmdline, has := strings.ReplaceAll(string(b), "\x00", " "), true
		for _, word := range words {
			has = has && strings.Contains(cmdline, word)
		}
		if has && cmdline != "" {
			pids = append(pids, filepath.Base(filepath.Dir(file)))
		}
	}
	return pids
}

// eventually calls try every 50 ms until it succeeds, and fails the test with its
// last error after patience.
func eventually(t *testing.T, patience time.Duration, try func() error) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %v", patience, err)
		}
	}
}
