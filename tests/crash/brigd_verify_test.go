package crash

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"brig/internal/netns"
	testnode "brig/tests/node"
)

// TestBrigdVerify takes something away from a node, or adds something, of every kind that
// can be, and wants brig node verify to say exactly that and to fail.
func TestBrigdVerify(t *testing.T) {
	t.Parallel()
	a := launchAgent(t, testnode.Options{})
	s := a.bystander(t)
	config, err := a.Config()
	if err != nil {
		t.Fatal(err)
	}
	const stranger = "sb-aaaaaaaaaaaaaaaa"
	run := func(args ...string) error {
		out, err := exec.CommandContext(context.Background(), args[0], args[1:]...).CombinedOutput()
		if err != nil {
			return fmt.Errorf("%v: %w: %s", args, err, out)
		}
		return nil
	}
	inTransit := func(args ...string) error {
		return run(append([]string{"nsenter", "--net=" + netns.Path(config.TransitName()), "--"}, args...)...)
	}
	routes, err := exec.CommandContext(t.Context(), "nsenter", "--net="+netns.Path(config.TransitName()), "--", "ip", "-4", "route", "show", s.GetAddress()).Output()
	if err != nil {
		t.Fatal(err)
	}
	folders, err := filepath.Glob("/sys/fs/cgroup/pids" + config.CgroupParent())
	if err != nil || len(folders) == 0 {
		folders = []string{"/sys/fs/cgroup" + config.CgroupParent()}
	}
	cgroup := filepath.Join(folders[0], stranger)
	runsc := filepath.Join(config.RunscRoot(config.Containerd.Namespace), stranger)
	file := func(path string) (do, undo func() error) {
		return func() error {
				return errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, nil, 0o600))
			},
			func() error { return os.Remove(path) }
	}
	folder := func(path string) (do, undo func() error) {
		return func() error { return os.MkdirAll(path, 0o700) }, func() error { return os.Remove(path) }
	}
	secret, noSecret := file(filepath.Join(config.SecretsDir(), stranger))
	phases, noPhases := file(config.PhasesFile(config.Containerd.Namespace, stranger))
	binds, noBinds := folder(filepath.Join(config.BindsDir(), stranger))
	checkpoint, noCheckpoint := folder(filepath.Join(config.CheckpointsDir(), "0", ".1"))
	layer, noLayer := folder(filepath.Join(config.SnapshotsDir(), stranger+"-1"))
	execution, noExecution := folder(filepath.Join(config.JournalDir(s.GetId()), "execs", "half"))
	a.says(t)
	for name, c := range map[string]struct {
		do, undo func() error
		want     string
	}{
		"a cgroup":      {func() error { return os.Mkdir(cgroup, 0o755) }, func() error { return os.Remove(cgroup) }, "+ cgroup " + stranger},
		"runsc's state": {func() error { return os.Mkdir(runsc, 0o755) }, func() error { return os.Remove(runsc) }, "+ runsc " + stranger},
		"a mount":       {func() error { return mountAt(filepath.Join(config.RunDir, stranger)) }, func() error { return unmountAt(filepath.Join(config.RunDir, stranger)) }, "+ mount " + stranger},
		"a route": {func() error { return inTransit("ip", "route", "delete", s.GetAddress()) }, func() error {
			return inTransit(append([]string{"ip", "route", "add"}, strings.Fields(string(routes))...)...)
		}, "- route " + s.GetId()},
		"a secret":                {secret, noSecret, "+ secrets " + stranger},
		"what a shim told":        {phases, noPhases, "+ phases " + stranger},
		"a staged bind":           {binds, noBinds, "+ binds " + stranger},
		"half a checkpoint":       {checkpoint, noCheckpoint, "+ unfinished checkpoint"},
		"half a snapshot":         {layer, noLayer, "+ unfinished snapshot " + stranger},
		"half an exec":            {execution, noExecution, "+ half-made exec " + s.GetId()},
		"a half-written file":     {func() error { return os.WriteFile(filepath.Join(config.StateDir, "x.new"), nil, 0o600) }, func() error { return os.Remove(filepath.Join(config.StateDir, "x.new")) }, "+ half-written"},
		"a namespace of somebody": {func() error { return run("ip", "netns", "add", "brigt-verify") }, func() error { return run("ip", "netns", "delete", "brigt-verify") }, ""},
	} {
		if err := c.do(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		a.says(t, c.want)
		if err := c.undo(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	a.says(t)
	a.refusesToTell(t)
}

// says wants the differences to begin with these, and no others.
func (a *agent) says(t *testing.T, want ...string) {
	t.Helper()
	want = slices.DeleteFunc(want, func(w string) bool { return w == "" })
	r := a.Try(t, "node", "verify")
	lines := strings.Split(strings.TrimSpace(r.Stdout), "\n")
	lines = slices.DeleteFunc(lines, func(l string) bool { return l == "" })
	good := len(lines) == len(want) && (r.Code == 0) == (len(want) == 0) && (r.Code == 1) == (len(want) > 0)
	for i := range min(len(lines), len(want)) {
		good = good && strings.HasPrefix(lines[i], want[i])
	}
	if !good {
		t.Errorf("want %q and status %v\n%s", want, len(want) > 0, r)
	}
}

// refusesToTell: whoever is not root learns nothing.
func (a *agent) refusesToTell(t *testing.T) {
	t.Helper()
	if err := os.Chmod(a.Socket(), 0o666); err != nil {
		t.Fatal(err)
	}
	cmd := a.BrigCommand(t.Context(), "node", "verify", "--census")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 4711, Gid: 4711}}
	if r := testnode.Run(t, cmd); r.Code != 1 || r.Stdout != "" || !strings.Contains(r.Stderr, "root") {
		t.Errorf("somebody else asks: %s", r)
	}
}

func mountAt(path string) error {
	return errors.Join(os.Mkdir(path, 0o755), syscall.Mount("none", path, "tmpfs", 0, "size=4k"))
}

func unmountAt(path string) error {
	return errors.Join(syscall.Unmount(path, 0), os.Remove(path))
}
