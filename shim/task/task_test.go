package task

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"brig/internal/config"
	"brig/internal/journal"
	"brig/internal/require"
	"brig/shim/bundle"
	"brig/shim/gate"
	"brig/shim/runsc"
	"brig/shim/stdio"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// door is a gate that does what the test says.
type door struct {
	refuse error
	last   gate.Request
	open   bool // sandboxes have a network
}

func (d *door) Plan(map[string]string, *config.Config) (bool, error) { return !d.open, nil }
func (d *door) Check(_ context.Context, _ *config.Config, r gate.Request) error {
	d.last = r
	return d.refuse
}
func (d *door) Release(context.Context, *config.Config, string, string) error { return nil }

// fixture is a shim with the real runsc and a bundle whose root is the host's,
// read-only.
type fixture struct {
	*Shim
	t       *testing.T
	door    *door
	request CreateRequest
	spec    specs.Spec

	mu     sync.Mutex
	events []string
}

func setUp(t *testing.T, argv ...string) *fixture {
	t.Helper()
	bin := require.Runsc(t)
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	run, err := os.MkdirTemp("", "brig") // a short path
	if err != nil {
		t.Fatal(err)
	}
	cfg := config.Defaults()
	cfg.RunDir, cfg.Runsc.Path = run, filepath.Join(bin, "deps", "runsc")
	id := fmt.Sprintf("task-%d", os.Getpid())
	f := &fixture{t: t, door: new(door)}
	f.Shim = New(Options{Namespace: "test", Gate: f.door, Emit: f.record, Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
	f.request = CreateRequest{ID: id, Bundle: bundle.Bundle(t.TempDir()), Config: &cfg}
	f.spec = specs.Spec{
		Version: specs.Version,
		Process: &specs.Process{Args: argv, Cwd: "/", Env: []string{"PATH=/usr/bin:/bin"}},
		Root:    &specs.Root{Path: "/", Readonly: true},
		Linux:   &specs.Linux{CgroupsPath: "/" + id, Namespaces: []specs.LinuxNamespace{{Type: specs.PIDNamespace}, {Type: specs.IPCNamespace}}},
	}
	t.Cleanup(func() {
		if id := f.request.ID; f.PID(id) != 0 {
			f.Kill(context.Background(), id, "", unix.SIGKILL, false)
			f.Wait(context.Background(), id, "")
			f.Delete(context.Background(), id)
		}
		f.checkNothingLeft(run)
		unix.Unmount(filepath.Join(run, "r", "null-netns"), unix.MNT_DETACH)
		os.RemoveAll(run)
	})
	return f
}

func (f *fixture) record(e Event) {
	text := strings.TrimPrefix(fmt.Sprintf("%T", e), "task.Event")
	switch e := e.(type) {
	case EventExited:
		text += fmt.Sprintf(" %q %d", e.ExecID, e.Exit.Code)
	case EventDeleted:
		text += fmt.Sprint(" ", e.Exit.Code)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.events = append(f.events, text)
}

func (f *fixture) told(want ...string) {
	f.t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	if diff := cmp.Diff(want, f.events); diff != "" {
		f.t.Errorf("events: -want +got:\n%s", diff)
	}
}

func (f *fixture) checkNothingLeft(run string) {
	f.t.Helper()
	if left, _ := filepath.Glob(filepath.Join(run, "r", "test", "*")); len(left) > 0 {
		f.t.Errorf("runsc's state is left: %v", left)
	}
	if left, _ := filepath.Glob("/sys/fs/cgroup/*/" + f.request.ID); len(left) > 0 {
		f.t.Errorf("cgroups are left: %v", left)
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil || strings.Contains(string(mounts), string(f.request.Bundle)) {
		f.t.Errorf("mounts are left (%v)", err)
	}
}

func (f *fixture) create() error {
	data, err := json.Marshal(f.spec)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(string(f.request.Bundle), "config.json"), data, 0o600); err != nil {
		return err
	}
	_, err = f.Create(f.t.Context(), f.request)
	return err
}

func (f *fixture) must(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatalf("%+v", err)
	}
}

func (f *fixture) start() error {
	_, err := f.Start(f.t.Context(), f.request.ID)
	return err
}

func (f *fixture) wait(execID string) uint32 {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), time.Minute)
	defer cancel()
	exit, err := f.Wait(ctx, f.request.ID, execID)
	f.must(err)
	return exit.Code
}

// waitForOutput knows by it that the program runs.
func (f *fixture) waitForOutput(j journal.Spec) {
	f.t.Helper()
	r, err := journal.Open(j.Path)
	f.must(err)
	defer r.Close()
	ctx, cancel := context.WithTimeout(f.t.Context(), time.Minute)
	defer cancel()
	f.must(r.Wait(ctx, 0))
}

func (f *fixture) remove() error {
	_, _, err := f.Delete(f.t.Context(), f.request.ID)
	return err
}

func (f *fixture) state() State {
	f.t.Helper()
	status, err := f.Status(f.request.ID, "")
	f.must(err)
	return status.State
}

// crashed wants the shim to say so of what has ended.
func (f *fixture) crashed(want bool) {
	f.t.Helper()
	if got, err := f.Crashed(f.request.ID); err != nil || got != want {
		f.t.Errorf("crashed is %v, %v; want %v", got, err, want)
	}
}

func TestLife(t *testing.T) {
	f := setUp(t, "/bin/sh", "-c", "trap 'exit 3' TERM; echo out; echo err >&2; while :; do sleep 0.1; done")
	out := journal.Spec{Path: filepath.Join(t.TempDir(), "out"), Max: journal.Chunk}
	f.request.Streams = stdio.Config{Stdout: out.URI()}
	f.must(f.create())
	if err := f.create(); !errdefs.IsAlreadyExists(err) {
		t.Errorf("a second create: %v", err)
	}
	if f.state() != Created {
		t.Errorf("after create: %s", f.state())
	}
	f.must(f.start())
	if err := f.start(); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("a second start: %v", err)
	}
	if err := f.remove(); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("delete of what runs: %v", err)
	}
	f.waitForOutput(out)
	id := f.request.ID
	sh := func(script string) *specs.Process {
		return &specs.Process{Args: []string{"/bin/sh", "-c", script}, Cwd: "/", Env: []string{"PATH=/usr/bin:/bin"}}
	}
	execOut := journal.Spec{Path: filepath.Join(t.TempDir(), "exec"), Max: journal.Chunk}
	f.must(f.AddExec(id, "a", sh("echo from exec; exit 5"), stdio.Config{Stdout: execOut.URI()}))
	if err := f.AddExec(id, "a", sh("true"), stdio.Config{}); !errdefs.IsAlreadyExists(err) {
		t.Errorf("a second exec of that id: %v", err)
	}
	_, err := f.StartExec(t.Context(), id, "a")
	f.must(err)
	if code := f.wait("a"); code != 5 {
		t.Errorf("exec: %d, want 5", code)
	}
	if b, err := os.ReadFile(execOut.Path); err != nil || string(b) != "from exec\n" {
		t.Errorf("output of exec: %q, %v", b, err)
	}
	f.must(f.AddExec(id, "tty", sh("[ -t 0 ]"), stdio.Config{Terminal: true}))
	_, err = f.StartExec(t.Context(), id, "tty")
	f.must(err)
	if code := f.wait("tty"); code != 0 {
		t.Errorf("a terminal that only the request asks for: %d, want 0", code)
	}
	f.must(f.AddExec(id, "b", &specs.Process{Args: []string{"/no/such"}, Cwd: "/"}, stdio.Config{}))
	if _, err := f.StartExec(t.Context(), id, "b"); err == nil || f.wait("b") == 0 {
		t.Errorf("an exec of nothing: %v, status %d", err, f.wait("b"))
	}
	f.must(f.AddExec(id, "c", sh("exec sleep 1000"), stdio.Config{}))
	_, err = f.StartExec(t.Context(), id, "c")
	f.must(err)
	f.must(f.Kill(t.Context(), id, "", unix.SIGTERM, false))
	if code := f.wait(""); code != 3 || f.wait("c") != killed {
		t.Errorf("program: %d, want 3; exec that outlived it: %d, want %d", code, f.wait("c"), killed)
	}
	if exit, err := f.request.Bundle.Exit(); err != nil || exit.Code != 3 {
		t.Errorf("on record: %+v, %v", exit, err)
	}
	if err := f.Kill(t.Context(), id, "", unix.SIGKILL, true); !errdefs.IsNotFound(err) {
		t.Errorf("kill of what has ended: %v", err)
	}
	if b, err := os.ReadFile(out.Path); err != nil || string(b) != "out\n" {
		t.Errorf("output: %q, %v", b, err)
	}
	f.must(f.remove())
	if err := f.remove(); !errdefs.IsNotFound(err) {
		t.Errorf("a second delete: %v", err)
	}
	f.told("Created", "Started", "ExecAdded", "ExecStarted", `Exited "a" 5`, "ExecAdded", "ExecStarted", `Exited "tty" 0`,
		"ExecAdded", "ExecAdded", "ExecStarted", `Exited "c" 137`, `Exited "" 3`, "Deleted 3")
}

func TestShortPrograms(t *testing.T) {
	f := setUp(t, "/bin/true")
	f.must(f.create())
	f.must(f.start())
	if code := f.wait(""); code != 0 {
		t.Errorf("got %d", code)
	}
	f.must(f.remove())
	f.told("Created", "Started", `Exited "" 0`, "Deleted 0")
}

func TestKilledBeforeItStarts(t *testing.T) {
	f := setUp(t, "/bin/true")
	f.must(f.create())
	f.must(f.Kill(t.Context(), f.request.ID, "", unix.SIGTERM, false))
	if code := f.wait(""); code != 143 {
		t.Errorf("got %d, want 143", code)
	}
	if err := f.start(); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("start of what was killed: %v", err)
	}
	f.must(f.remove())
	f.told("Created", `Exited "" 143`, "Deleted 143")
}

func TestDeletedBeforeItStarts(t *testing.T) {
	f := setUp(t, "/bin/true")
	f.must(f.create())
	f.must(f.remove())
	f.told("Created", `Exited "" 137`, "Deleted 137")
}

// TestDeletesAtOnce: one of them deletes, and the others are told so when it has.
func TestDeletesAtOnce(t *testing.T) {
	f := setUp(t, "/bin/true")
	f.must(f.create())
	f.must(f.start())
	f.wait("")
	var wg sync.WaitGroup
	errs := make([]error, 4)
	for i := range errs {
		wg.Go(func() {
			errs[i] = f.remove()
			if !f.Empty() {
				t.Error("it has answered and the task is there")
			}
		})
	}
	wg.Wait()
	late := 0
	for _, err := range errs {
		if errdefs.IsNotFound(err) {
			late++
		} else if err != nil {
			t.Error(err)
		}
	}
	if late != len(errs)-1 {
		t.Errorf("%d of %d came late", late, len(errs))
	}
	f.told("Created", "Started", `Exited "" 0`, "Deleted 0")
}

func TestTheGateMayRefuse(t *testing.T) {
	f := setUp(t, "/bin/true")
	f.door.refuse = errors.New("no way")
	f.must(f.create())
	if err := f.start(); !errors.Is(err, f.door.refuse) || f.state() != Created {
		t.Errorf("start: %v, and it is %s", err, f.state())
	}
	f.door.refuse = nil // the network is there now
	f.must(f.start())
	f.wait("")
	f.must(f.remove())
}

// broken is a program that no kernel can run.
func broken(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "broken")
	if err := os.WriteFile(path, []byte("\x7fELF"), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestStartOfNothing(t *testing.T) {
	f := setUp(t, broken(t))
	f.must(f.create())
	var failure *runsc.Failure
	if err := f.start(); !errors.As(err, &failure) {
		t.Errorf("start: %v", err)
	}
	if code := f.wait(""); code != failedStart {
		t.Errorf("got %d, want %d", code, failedStart)
	}
	f.must(f.remove())
	f.told("Created", `Exited "" 255`, "Deleted 255")
}

func TestAFailedCreateLeavesNothing(t *testing.T) {
	for name, spoil := range map[string]func(*fixture){
		"no runsc":      func(f *fixture) { f.request.Config.Runsc.Path = "/no/runsc" },
		"runsc refuses": func(f *fixture) { f.spec.Process.SelinuxLabel = "x" },
		"no mount": func(f *fixture) {
			f.request.Rootfs = []mount.Mount{{Type: "bind", Source: "/no/such", Options: []string{"rbind"}}}
		},
		"runsc, mounted": func(f *fixture) {
			f.request.Rootfs, f.spec.Root.Path = []mount.Mount{{Type: "tmpfs", Source: "tmpfs"}}, "rootfs"
			f.spec.Process.SelinuxLabel = "x"
		},
		"no such program":   func(f *fixture) { f.spec.Process.Args[0] = "/no/such/program" },
		"no such FIFO":      func(f *fixture) { f.request.Streams.Stdout = "/no/fifo" },
		"other terminal":    func(f *fixture) { f.request.Streams.Terminal = true },
		"startContainer":    func(f *fixture) { f.spec.Hooks = &specs.Hooks{StartContainer: []specs.Hook{{Path: "/x"}}} },
		"a hook that fails": func(f *fixture) { f.spec.Hooks = &specs.Hooks{CreateRuntime: []specs.Hook{{Path: "/bin/false"}}} },
	} {
		t.Run(name, func(t *testing.T) {
			f := setUp(t, "/bin/true")
			spoil(f)
			if err := f.create(); err == nil {
				t.Error("no error")
			}
			if !f.Empty() {
				t.Error("there is a task")
			}
			entries, err := os.ReadDir(string(f.request.Bundle))
			names := slices.DeleteFunc(entries, func(e os.DirEntry) bool { return e.Name() == "config.json" || e.Name() == "rootfs" })
			if err != nil || len(names) > 0 {
				t.Errorf("left in the bundle: %v, %v", names, err)
			}
			f.told()
		})
	}
}

func TestMemoryLimit(t *testing.T) {
	f := setUp(t, "/usr/bin/tail", "/dev/zero")
	limit := int64(64 << 20)
	f.spec.Linux.Resources = &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &limit}}
	f.must(f.create())
	f.must(f.start())
	if code := f.wait(""); code != killed {
		t.Errorf("got %d, want %d", code, killed)
	}
	f.crashed(false)
	f.must(f.remove())
	f.told("Created", "Started", "OOM", `Exited "" 137`, "Deleted 137")
}

func TestPauseAndKill(t *testing.T) {
	f := setUp(t, "/bin/sleep", "1000")
	f.must(f.create())
	f.must(f.start())
	id := f.request.ID
	if err := f.Resume(t.Context(), id); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("resume of what runs: %v", err)
	}
	f.must(f.Pause(t.Context(), id))
	f.must(f.Resume(t.Context(), id))
	f.must(f.Pause(t.Context(), id))
	if f.state() != Paused {
		t.Errorf("it is %s", f.state())
	}
	f.must(f.Kill(t.Context(), id, "", unix.SIGKILL, true))
	if code := f.wait(""); code != killed {
		t.Errorf("got %d, want %d", code, killed)
	}
	f.crashed(false)
	f.must(f.remove())
	f.told("Created", "Started", "Paused", "Resumed", "Paused", `Exited "" 137`, "Deleted 137")
}

// TestAKillThatWorkedIsNoError, however soon the process is gone.
func TestAKillThatWorkedIsNoError(t *testing.T) {
	f := setUp(t, "/bin/sleep", "1000")
	f.must(f.create())
	f.must(f.start())
	id := f.request.ID
	for i := range 50 {
		execID := fmt.Sprint(i)
		f.must(f.AddExec(id, execID, &specs.Process{Args: []string{"/bin/sleep", "1000"}, Cwd: "/"}, stdio.Config{}))
		_, err := f.StartExec(t.Context(), id, execID)
		f.must(err)
		f.must(f.Kill(t.Context(), id, execID, unix.SIGKILL, false))
		if code := f.wait(execID); code != killed {
			t.Errorf("exec %d: %d, want %d", i, code, killed)
		}
	}
}

// A start that waits for a reader does not keep back the end of the program.
func TestAnExecWithoutAReader(t *testing.T) {
	f := setUp(t, "/bin/sleep", "1000")
	f.must(f.create())
	f.must(f.start())
	id, fifo := f.request.ID, filepath.Join(t.TempDir(), "out")
	f.must(unix.Mkfifo(fifo, 0o600))
	f.must(f.AddExec(id, "x", &specs.Process{Args: []string{"/bin/true"}, Cwd: "/"}, stdio.Config{Stdout: fifo}))
	started := make(chan error, 1)
	go func() {
		_, err := f.StartExec(context.WithoutCancel(t.Context()), id, "x")
		started <- err
	}()
	eventually(t, func() error {
		_, p, err := f.find(id, "x")
		f.must(err)
		p.mu.Lock()
		defer p.mu.Unlock()
		if !p.claimed {
			return errors.New("the start has not begun")
		}
		return nil
	})
	f.must(f.Kill(t.Context(), id, "", unix.SIGKILL, false))
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if exit, err := f.Wait(ctx, id, ""); err != nil || exit.Code != killed {
		t.Fatalf("status %d, %v", exit.Code, err)
	}
	if err := <-started; !errdefs.IsFailedPrecondition(err) {
		t.Error(err)
	}
	f.must(f.remove())
}

// TestAProgramKillsItself: the status is that of a kernel that was killed, and it was not.
func TestAProgramKillsItself(t *testing.T) {
	f := setUp(t, "/bin/sh", "-c", "kill -9 $$")
	f.must(f.create())
	f.must(f.start())
	if code := f.wait(""); code != killed {
		t.Errorf("got %d, want %d", code, killed)
	}
	f.crashed(false)
	f.must(f.remove())
}

func TestTheSentryDies(t *testing.T) {
	f := setUp(t, "/bin/sleep", "1000")
	f.must(f.create())
	f.must(f.start())
	f.must(unix.Kill(f.PID(f.request.ID), unix.SIGKILL))
	// Nobody needs to have noticed yet.
	if err := f.Kill(t.Context(), f.request.ID, "", unix.SIGCHLD, false); !errdefs.IsNotFound(err) {
		t.Errorf("a signal to a sandbox that is gone: %v", err)
	}
	if code := f.wait(""); code != killed {
		t.Errorf("got %d, want %d", code, killed)
	}
	f.crashed(true)
	f.must(f.remove())
}
