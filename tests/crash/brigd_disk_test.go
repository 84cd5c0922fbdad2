package crash

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"golang.org/x/sys/unix"

	"brig/internal/baddisk"
	brigv1 "brig/nodeagent/api/brig/v1"
	testnode "brig/tests/node"
)

// TestBrigdOnABadDisk: on a disk that is full or out of inodes nothing new is
// acknowledged and nothing half-made is left; what runs can be used, ended and removed.
// When there is room again everything works.
func TestBrigdOnABadDisk(t *testing.T) {
	t.Parallel()
	for name, breakIt := range map[string]func(testing.TB, string) (mend func()){
		"full":          baddisk.Fill,
		"out of inodes": baddisk.Litter,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			disk := baddisk.Small(t, "64m", "nr_inodes=4000")
			a := launchAgent(t, testnode.Options{Overrides: fmt.Sprintf("state_dir = %q\n", disk+"/state")})
			bystander := a.bystander(t)
			doomed := idle(t, a)
			mend := breakIt(t, disk)
			a.onABadDisk(t, bystander, doomed)
			mend()
			a.clean(t, idle(t, a), "")
			a.converges(t, patience)
			a.unharmed(t, bystander)
		})
	}
}

func (a *agent) onABadDisk(t *testing.T, bystander, doomed *brigv1.Sandbox) {
	t.Helper()
	var refused error
	for i := 0; i < 300 && refused == nil; i++ { // what room was set aside is used up first
		_, refused = a.make(ask(t), bulky(i))
	}
	if connect.CodeOf(refused) != connect.CodeResourceExhausted {
		t.Errorf("a create on a bad disk: %v, want resource_exhausted", refused)
	}
	a.unharmed(t, bystander)
	if err := a.remove(ask(t), doomed.GetId()); err != nil {
		t.Errorf("remove: %v", err)
	}
	gone(t, a, doomed, "")
}

// TestBrigdReadOnly: where nothing can be written brigd does not start, and says why;
// what runs goes on.
func TestBrigdReadOnly(t *testing.T) {
	t.Parallel()
	a := launchAgent(t, testnode.Options{})
	bystander := a.bystander(t)
	if err := a.Kill(); err != nil {
		t.Fatal(err)
	}
	// In a mount namespace of its own, since containerd writes there.
	script := fmt.Sprintf("mount --bind %[1]s/state %[1]s/state && mount -o remount,bind,ro %[1]s/state && exec %[2]s/brigd --config %[1]s/config.toml", a.Dir, a.Bin)
	r := testnode.Run(t, exec.CommandContext(t.Context(), "unshare", "--mount", "sh", "-c", script))
	if r.Code != 1 || !strings.Contains(r.Stderr, "read-only file system") || strings.Contains(r.Stdout, "ready") {
		t.Errorf("brigd on a read-only disk: %s", r)
	}
	a.restart(t)
	a.unharmed(t, bystander)
}

// bulky is a request that takes much room in the store.
func bulky(i int) *brigv1.CreateRequest {
	return &brigv1.CreateRequest{
		Name: fmt.Sprint("new-", i), Argv: []string{"true"}, Env: map[string]string{"ROOM": strings.Repeat("x", 100<<10)},
		Network: &brigv1.NetworkPolicy{BlockNetwork: true},
	}
}

// TestBrigdOutOfFiles: with no descriptor left brigd refuses, and works when there are
// some again.
func TestBrigdOutOfFiles(t *testing.T) {
	t.Parallel()
	a := launchAgent(t, testnode.Options{})
	bystander := a.bystander(t)
	var before unix.Rlimit
	if err := unix.Prlimit(a.PID(), unix.RLIMIT_NOFILE, nil, &before); err != nil {
		t.Fatal(err)
	}
	open, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", a.PID()))
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Prlimit(a.PID(), unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: uint64(len(open)), Max: before.Max}, nil); err != nil {
		t.Fatal(err)
	}
	s, err := a.make(ask(t), &brigv1.CreateRequest{})
	if err == nil {
		t.Errorf("%s was made without a descriptor", s.GetId())
	}
	t.Log(err)
	if err := unix.Prlimit(a.PID(), unix.RLIMIT_NOFILE, &before, nil); err != nil {
		t.Fatal(err)
	}
	a.converges(t, patience)
	a.unharmed(t, bystander)
	a.clean(t, idle(t, a), "")
}
