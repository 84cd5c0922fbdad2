package task

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"brig/shim/stdio"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// spoil puts a script before runsc, which has the command as $op.
func (f *fixture) spoil(script string) {
	f.t.Helper()
	path := filepath.Join(f.t.TempDir(), "runsc")
	text := fmt.Sprintf("#!/bin/sh\nunset BRIG_START_FD\nfor op; do case $op in -*) ;; *) break;; esac; done\n%s\nexec %s \"$@\"\n", script, f.request.Config.Runsc.Path)
	f.must(os.WriteFile(path, []byte(text), 0o755))
	f.request.Config.Runsc.Path = path
}

// soon is a context for what must not hang.
func (f *fixture) soon() context.Context {
	ctx, cancel := context.WithTimeout(f.t.Context(), 10*time.Second)
	f.t.Cleanup(cancel)
	return ctx
}

// TestDeleteWithoutRunsc: a runsc that does not do it keeps nothing on the node.
func TestDeleteWithoutRunsc(t *testing.T) {
	f := setUp(t, "/bin/true")
	f.spoil(`[ $op = delete ] && exit 1`)
	id := f.request.ID
	f.must(f.create())
	f.must(f.start())
	f.wait("")
	f.must(f.remove())
	if f.PID(id) != 0 {
		t.Error("the task is there")
	}
}

// TestKillInAHangingStart: the end is told, and the task can be deleted.
func TestKillInAHangingStart(t *testing.T) {
	f := setUp(t, "sleep", "1000")
	f.spoil(`[ $op = start ] && while :; do sleep 1; done`)
	id := f.request.ID
	f.must(f.create())
	started := make(chan error)
	go func() { started <- f.start() }()
	time.Sleep(100 * time.Millisecond)
	f.must(f.Kill(f.soon(), id, "", unix.SIGKILL, false))
	exit, err := f.Wait(f.soon(), id, "")
	f.must(err)
	if exit.Code != killed {
		t.Errorf("status %d, want %d", exit.Code, killed)
	}
	if err := <-started; err == nil {
		t.Error("a start that hung and was killed succeeded")
	}
	_, _, err = f.Delete(f.soon(), id)
	f.must(err)
}

// TestDeleteGivesUpACreate that would wait for ever for the reader of its output.
func TestDeleteGivesUpACreate(t *testing.T) {
	f := setUp(t, "true")
	f.request.Streams = stdio.Config{Stdout: filepath.Join(t.TempDir(), "out")}
	f.must(unix.Mkfifo(f.request.Streams.Stdout, 0o600))
	created := make(chan error)
	go func() { created <- f.create() }()
	for f.Empty() {
		time.Sleep(time.Millisecond)
	}
	if _, _, err := f.Delete(f.soon(), f.request.ID); !errdefs.IsNotFound(err) {
		t.Errorf("delete: %v", err)
	}
	if err := <-created; err == nil {
		t.Error("a create that was given up succeeded")
	}
	if !f.Empty() {
		t.Error("the shim has something")
	}
	f.told()
}

// TestShutdownGivesUpAPodsStart.
func TestShutdownGivesUpAPodsStart(t *testing.T) {
	f := setUp(t)
	f.spoil(`[ $op = create ] && while :; do sleep 1; done`)
	request := f.podRequest()
	f.must(f.CreatePod(request))
	started := make(chan error)
	go func() { _, err := f.StartPod(context.Background(), request.ID); started <- err }()
	time.Sleep(100 * time.Millisecond)
	f.must(f.ShutdownPod(f.soon(), request.ID))
	if err := <-started; err == nil {
		t.Error("a pod was started and shut down")
	}
	if !f.Empty() {
		t.Error("the shim has something")
	}
}

// TestTwoDeletes at once: one deletes, the other finds nothing, and one end is told.
func TestTwoDeletes(t *testing.T) {
	f := setUp(t, "sh", "-c", "exit 3")
	f.must(f.create())
	f.must(f.start())
	f.wait("")
	results := make(chan error)
	for range 2 {
		go func() { _, _, err := f.Delete(f.soon(), f.request.ID); results <- err }()
	}
	a, b := <-results, <-results
	if a != nil {
		a, b = b, a
	}
	if a != nil || !errdefs.IsNotFound(b) {
		t.Errorf("%v and %v", a, b)
	}
	f.told("Created", "Started", `Exited "" 3`, "Deleted 3")
}

// TestExecThatIsNeverStarted ends with its task, for whoever waits for it.
func TestExecThatIsNeverStarted(t *testing.T) {
	f := setUp(t, "sleep", "1000")
	f.must(f.create())
	f.must(f.start())
	id := f.request.ID
	for _, execID := range []string{"deleted", "left"} {
		f.must(f.AddExec(id, execID, &specs.Process{Args: []string{"true"}, Cwd: "/"}, stdio.Config{}))
	}
	ends := make(chan Exit)
	wait := func(execID string) {
		exit, err := f.Wait(f.soon(), id, execID)
		if err != nil {
			t.Error(execID, err)
		}
		ends <- exit
	}
	go wait("deleted")
	time.Sleep(50 * time.Millisecond)
	_, _, err := f.DeleteExec(id, "deleted")
	f.must(err)
	if exit := <-ends; exit.Code != failedStart {
		t.Errorf("status %d", exit.Code)
	}
	go wait("left")
	time.Sleep(50 * time.Millisecond)
	f.must(f.Kill(t.Context(), id, "", unix.SIGKILL, false))
	_, err = f.Wait(f.soon(), id, "")
	f.must(err)
	_, _, err = f.Delete(f.soon(), id)
	f.must(err)
	if exit := <-ends; exit.Code != failedStart {
		t.Errorf("status %d", exit.Code)
	}
}
