package runsc

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"brig/internal/require"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// The tests in this file pin what this package believes of the runsc that is shipped:
// flags, the control socket's methods and argument structs, exit statuses.

// boot makes a sandbox whose root is the host's, read-only.
func boot(t *testing.T, argv ...string) (r Runsc, id, dir string, sentry *os.Process) {
	t.Helper()
	return bootSpec(t, func(*specs.Spec) {}, argv...)
}

// bootSpec is boot with a spec that differs.
func bootSpec(t *testing.T, edit func(*specs.Spec), argv ...string) (r Runsc, id, dir string, sentry *os.Process) {
	t.Helper()
	r, id, dir = prepare(t, edit, argv...)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := r.Create(ctx, id, CreateOptions{Bundle: dir, PIDFile: filepath.Join(dir, "pid")}); err != nil {
		t.Fatalf("%+v", err)
	}
	return r, id, dir, sentryOf(t, dir)
}

// prepare writes a bundle, and takes away what is made of it.
func prepare(t *testing.T, edit func(*specs.Spec), argv ...string) (r Runsc, id, dir string) {
	t.Helper()
	bin := require.Runsc(t)
	// As the shim does: what runsc leaves becomes this process's child.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	dir, id = t.TempDir(), "contract-"+strconv.Itoa(os.Getpid())
	spec := specs.Spec{
		Version: specs.Version,
		Process: &specs.Process{Args: argv, Cwd: "/", Env: []string{"PATH=/usr/bin:/bin"}},
		Root:    &specs.Root{Path: "/", Readonly: true},
		Linux:   &specs.Linux{CgroupsPath: "/" + id, Namespaces: []specs.LinuxNamespace{{Type: specs.NetworkNamespace}}},
	}
	edit(&spec)
	data, err := json.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "config.json"), data, 0o600); err != nil {
		t.Fatal(err)
	}
	r = Runsc{
		Binary: filepath.Join(bin, "deps", "runsc"), Root: filepath.Join(dir, "root", "a"), SharedRoot: filepath.Join(dir, "root"),
		Platform: "systrap", Network: NetworkNone, Overlay: "none",
	}
	t.Cleanup(func() {
		if err := r.Delete(context.Background(), id, dir); err != nil {
			t.Errorf("%+v", err)
		}
		unix.Unmount(filepath.Join(r.SharedRoot, "null-netns"), unix.MNT_DETACH)
	})
	if err := os.MkdirAll(r.Root, 0o711); err != nil {
		t.Fatal(err)
	}
	return r, id, dir
}

func sentryOf(t *testing.T, dir string) *os.Process {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "pid"))
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(string(text))
	if err != nil {
		t.Fatal(err)
	}
	sentry, err := os.FindProcess(pid)
	if err != nil {
		t.Fatal(err)
	}
	return sentry
}

func start(t *testing.T, argv ...string) (c *Control, id string, sentry *os.Process) {
	t.Helper()
	c, _, id, _, sentry = startIn(t, argv...)
	return c, id, sentry
}

func startIn(t *testing.T, argv ...string) (c *Control, r Runsc, id, dir string, sentry *os.Process) {
	t.Helper()
	r, id, dir, sentry = boot(t, argv...)
	if err := r.Start(t.Context(), id, dir, nil); err != nil {
		t.Fatalf("%+v", err)
	}
	return NewControl(r.Root, id), r, id, dir, sentry
}

func ended(t *testing.T, sentry *os.Process) unix.WaitStatus {
	t.Helper()
	state, err := sentry.Wait()
	if err != nil {
		t.Fatal(err)
	}
	return unix.WaitStatus(state.Sys().(interface{ ExitStatus() int }).ExitStatus() << 8)
}

// shell runs a script in the sandbox and returns its output and status.
func shell(t *testing.T, c *Control, id, script, stdin string) (string, unix.WaitStatus) {
	t.Helper()
	args, err := NewExecArgs(id, &specs.Process{Args: []string{"/bin/sh", "-c", script}, Cwd: "/", Env: []string{"PATH=/usr/bin:/bin"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	inR, inW, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	outR, outW, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	pid, err := c.Exec(ctx, args, [3]*os.File{inR, outW, outW})
	if err != nil {
		t.Fatal(err)
	}
	inR.Close()
	outW.Close()
	io.WriteString(inW, stdin)
	inW.Close()
	out, err := io.ReadAll(outR)
	if err != nil {
		t.Fatal(err)
	}
	status, err := c.WaitPID(ctx, id, pid)
	if err != nil {
		t.Fatal(err)
	}
	return string(out), status
}

func TestContractExitStatusOfAShortProgram(t *testing.T) {
	_, _, sentry := start(t, "/bin/sh", "-c", "exit 7")
	if status := ended(t, sentry); status.ExitStatus() != 7 {
		t.Errorf("got %d, want 7", status.ExitStatus())
	}
}

func TestContractExec(t *testing.T) {
	c, id, sentry := start(t, "/bin/sleep", "1000")
	out, status := shell(t, c, id, "cat; echo done; exit 9", "input\n")
	if out != "input\ndone\n" || status.ExitStatus() != 9 {
		t.Errorf("got %q, %d", out, status.ExitStatus())
	}
	if _, status := shell(t, c, id, "kill -TERM $$", ""); !status.Signaled() || status.Signal() != unix.SIGTERM {
		t.Errorf("status of a process that a signal ended: %#x", status)
	}
	args, err := NewExecArgs(id, &specs.Process{Args: []string{"/no/such/program"}, Cwd: "/"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	stdio := [3]*os.File{null, null, null}
	var remote *RemoteError
	if _, err := c.Exec(t.Context(), args, stdio); !errors.As(err, &remote) || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("exec of nothing: %v", err)
	}
	args.Argv = []string{"/bin/sleep", "1000"}
	pid, err := c.Exec(t.Context(), args, stdio)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Signal(t.Context(), id, pid, unix.SIGKILL, Process); err != nil {
		t.Error(err)
	}
	if status, err := c.WaitPID(t.Context(), id, pid); err != nil || status.Signal() != unix.SIGKILL {
		t.Errorf("status after a signal: %#x, %v", status, err)
	}
	args.Argv = []string{"/bin/sh", "-c", "sleep 0.1; exit 5"}
	pid, line, err := c.ExecLine(t.Context(), args, stdio)
	if err != nil {
		t.Fatal(err)
	}
	defer line.Close()
	if status, err := line.WaitPID(t.Context(), id, pid); err != nil || status.ExitStatus() != 5 {
		t.Errorf("waited for on the line that started it: %#x, %v", status, err)
	}
	if err := c.Signal(t.Context(), id, 0, unix.SIGKILL, All); err != nil {
		t.Error(err)
	}
	if status := ended(t, sentry); status.ExitStatus() != 137 {
		t.Errorf("killed: %d, want 137", status.ExitStatus())
	}
}

func TestContractPause(t *testing.T) {
	c, id, _ := start(t, "/bin/sleep", "1000")
	if err := errors.Join(c.Pause(t.Context()), c.Resume(t.Context())); err != nil {
		t.Fatal(err)
	}
	if out, _ := shell(t, c, id, "echo alive", ""); out != "alive\n" {
		t.Errorf("after a pause: %q", out)
	}
}

func TestContractGoferIsFound(t *testing.T) {
	r, id, _, sentry := boot(t, "/bin/true")
	data, err := os.ReadFile(filepath.Join(r.Root, id+"_sandbox:"+id+".state"))
	if err != nil {
		t.Fatal(err)
	}
	var state struct {
		GoferPID int `json:"goferPid"`
	}
	if err := json.Unmarshal(data, &state); err != nil || state.GoferPID == 0 || state.GoferPID == sentry.Pid {
		t.Errorf("gofer %d, sentry %d, %v", state.GoferPID, sentry.Pid, err)
	}
}

func TestContractStartOfNothingFails(t *testing.T) {
	r, id, dir, _ := boot(t, "/no/such/program")
	var f *Failure
	if err := r.Start(t.Context(), id, dir, nil); !errors.As(err, &f) || !strings.Contains(f.Message, "no such file") {
		t.Errorf("got %+v", err)
	}
}
