// Package task is the life of one sandbox as its shim leads it: create, start, exec,
// kill, wait, delete. It knows runsc, the bundle, the streams and the cgroup; it
// knows nothing of containerd's wire formats, which package wire translates.
//
// A sandbox is one sentry, and the sentry is this process's child (the shim is a
// subreaper). Its root container is a task, whose program's exit status is the
// sentry's wait status, so that there is no race between a short program and whoever
// waits for it; or, in a pod made by the Sandbox API, a holder that nobody sees. Other
// tasks are containers that have joined a pod: the sentry is asked for their exit
// status, and when it ends they end with 137.
//
// Order of events: Created, Started, then for each exec ExecAdded, ExecStarted and
// Exited, then the program's own Exited (after the sandbox's OOM where there was one),
// Deleted. A root container's Exited comes after those of all that joined it. When
// Exited is told, the exit is durable in the bundle and the output delivered.
//
// Locks: Shim.mu, then Sandbox.mu, then Task.mu, then process.mu; none of them is held
// across a fork, a call or a disk access.
package task

import (
	"context"
	"sync"
	"time"

	"brig/internal/config"
	"brig/shim/bundle"
	"brig/shim/runsc"
	"brig/shim/stdio"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// CreateRequest is what a create is asked for.
type CreateRequest struct {
	ID      string
	Bundle  bundle.Bundle
	Rootfs  []mount.Mount // empty: the spec's root is used as it is
	Streams stdio.Config
	Config  *config.Config // of a container that joins, the sandbox's counts
	// SystemdCgroup insists on a cgroups path that means a unit of systemd. One that
	// does is recognised without it.
	SystemdCgroup bool
	// Checkpoint is the path of an image to start from; empty: the spec's program. It
	// must stay until the start.
	Checkpoint string
}

// Task is one container of a sandbox.
type Task struct {
	sandbox *Sandbox
	request CreateRequest
	spec    *specs.Spec // as containerd gave it
	id      string      // runsc's name of the container
	args    []string    // the program's, which a checkpoint may have brought
	nvproxy bool        // runsc was given GPUs
	runsc   runsc.Runsc
	record  bundle.Record // as it was written: containerd may remove the bundle of a shim it has given up

	init *process

	gpus    *GPUPlan
	own     bundle.Own     // what brigd alone may ask for
	secrets []string       // of the environment, for execs
	passed  bool           // the gate has had its word before the start
	named   bool           // its checkpoint has a hostname that only a program inside can change
	standby *runsc.Standby // that has created the container, and starts it; nil: none has

	running sync.WaitGroup // execs that have begun to start and whose Exited is not told
	ended   chan struct{}  // closed when code is the program's end, before the sentry's or instead of it

	mu       sync.Mutex
	over     bool          // the program has ended, and its end is about to be told
	deleting chan struct{} // closed when the delete under way has ended; nil: none
	freed    bool          // a delete has succeeded
	saving   bool          // a checkpoint is under way
	starting chan struct{} // closed when the start under way has ended; nil: none yet
	code     uint32        // valid when ended is closed
	execs    map[string]*process
}

func newTask(b *Sandbox, r CreateRequest) *Task {
	return &Task{
		sandbox: b, request: r, id: r.ID, init: newProcess("", r.Streams),
		ended: make(chan struct{}), execs: make(map[string]*process),
	}
}

func (t *Task) isRoot() bool { return t.sandbox.root == t }

// isHolder tells that containerd knows no such task.
func (t *Task) isHolder() bool {
	return t.isRoot() && (t.sandbox.holder != nil || t.sandbox.slot != nil)
}

// isSole tells that the task has a sandbox of its own all the same: with the one goes the
// other.
func (t *Task) isSole() bool { return t.isRoot() || t.sandbox.slot != nil }

func (t *Task) emit(e Event) {
	if !t.isHolder() && !t.sandbox.held.unborn() {
		t.sandbox.shim.opts.Emit(e)
	}
}

// Status describes one process of a task.
type Status struct {
	ID      string
	Bundle  string
	PID     int
	State   State
	Streams stdio.Config
	Exit    Exit // valid when State is Stopped
}

// Exit of a process.
type Exit struct {
	Code uint32
	At   time.Time
}

// Status of the program, or of an exec.
func (s *Shim) Status(id, execID string) (Status, error) {
	t, p, err := s.find(id, execID)
	if err != nil {
		return Status{}, err
	}
	st := Status{ID: id, Bundle: string(t.request.Bundle), PID: t.sandbox.pid(), Streams: p.streams}
	if execID != "" {
		st.ID = execID
	}
	st.State, st.Exit = p.look()
	return st, nil
}

// Wait blocks until the process has ended.
func (s *Shim) Wait(ctx context.Context, id, execID string) (Exit, error) {
	_, p, err := s.find(id, execID)
	if err != nil {
		return Exit{}, err
	}
	return p.wait(ctx)
}

// CloseStdin ends the input of a process.
func (s *Shim) CloseStdin(id, execID string) error {
	_, p, err := s.find(id, execID)
	if err != nil {
		return err
	}
	if io := p.stdio(); io != nil {
		io.CloseStdin()
	}
	return nil
}
