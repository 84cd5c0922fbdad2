// Package task is the life of one sandbox as its shim leads it: create, start, exec,
// kill, wait, delete. It knows runsc, the bundle, the streams and the cgroup; it
// knows nothing of containerd's wire formats, which package wire translates.
//
// The program is the sandbox's root container and the sentry is this process's child
// (the shim is a subreaper), so the sentry's wait status is the program's, and there
// is no race between a short program and whoever waits for it.
//
// Order of events: Created, Started, then for each exec ExecAdded, ExecStarted and
// Exited, then the program's own Exited (after an OOM where there was one), Deleted.
// When Exited is told, the exit is durable in the bundle and the output delivered.
//
// Locks: Shim.mu, then Task.mu, then process.mu; none of them is held across a fork,
// a call or a disk access.
package task

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"brig/internal/config"
	"brig/shim/bundle"
	"brig/shim/cgroup"
	"brig/shim/gate"
	"brig/shim/runsc"
	"brig/shim/stdio"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// Gate decides about a sandbox's network. An error refuses the sandbox.
type Gate interface {
	// Plan tells, before the sandbox is made, whether it boots without a network.
	Plan(annotations map[string]string, cfg *config.Config) (block bool, err error)
	// Check is the last word before anything untrusted runs.
	Check(ctx context.Context, cfg *config.Config, r gate.Request) error
	// Release forgets a sandbox that has ended. Nothing but tidiness depends on it.
	Release(ctx context.Context, cfg *config.Config, namespace, id string) error
}

// Options of a Shim.
type Options struct {
	Namespace string // containerd's
	Gate      Gate
	Emit      func(Event) // must not block
	Log       *slog.Logger
}

// Shim holds at most one task.
type Shim struct {
	opts Options

	mu       sync.Mutex
	creating chan struct{} // closed when the create under way has ended; nil: none is
	task     *Task
}

// New returns a Shim without a task.
func New(opts Options) *Shim { return &Shim{opts: opts} }

// CreateRequest is what a create is asked for.
type CreateRequest struct {
	ID      string
	Bundle  bundle.Bundle
	Rootfs  []mount.Mount // empty: the spec's root is used as it is
	Streams stdio.Config
	Config  *config.Config
}

// Task is one sandbox.
type Task struct {
	shim    *Shim
	request CreateRequest
	spec    *specs.Spec // as containerd gave it
	block   bool        // no network

	runsc   runsc.Runsc
	control *runsc.Control
	sentry  *os.Process
	group   *cgroup.Group // nil: not known
	ooms    int           // kills in the group before the sandbox was made

	init *process
	gone chan struct{} // closed when the sentry has ended

	running sync.WaitGroup // execs that have begun to start and whose Exited is not told

	mu        sync.Mutex
	dead      bool          // the sentry has ended; set before gone is closed
	deleting  bool          // a delete is under way
	starting  chan struct{} // closed when the start under way has ended; nil: none yet
	forceCode uint32        // the exit code, whatever the sentry's; 0: the sentry's
	execs     map[string]*process
}

// get returns the task, which the caller must name rightly.
func (s *Shim) get(id string) (*Task, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.task == nil || s.task.request.ID != id {
		return nil, fmt.Errorf("task %s: %w", id, errdefs.ErrNotFound)
	}
	return s.task, nil
}

// find returns the program itself for an empty execID.
func (s *Shim) find(id, execID string) (*Task, *process, error) {
	t, err := s.get(id)
	if err != nil {
		return nil, nil, err
	}
	if execID == "" {
		return t, t.init, nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.execs[execID]
	if p == nil {
		return nil, nil, fmt.Errorf("exec %s of task %s: %w", execID, id, errdefs.ErrNotFound)
	}
	return t, p, nil
}

// Empty tells that the shim may end.
func (s *Shim) Empty() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.task == nil && s.creating == nil
}

// PID is the sentry's, 0 if there is no task. Every process of a sandbox lives in it,
// so it is the pid of execs too: a pid inside the sandbox means nothing on the host.
func (s *Shim) PID(id string) int {
	t, err := s.get(id)
	if err != nil {
		return 0
	}
	return t.sentry.Pid
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
	st := Status{ID: id, Bundle: string(t.request.Bundle), PID: t.sentry.Pid, Streams: p.streams}
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
	select {
	case <-p.exited:
		_, exit := p.look()
		return exit, nil
	case <-ctx.Done():
		return Exit{}, context.Cause(ctx)
	}
}

// Processes lists the execs that run; the program itself has the empty id and comes
// first.
func (s *Shim) Processes(id string) (pid int, execIDs []string, err error) {
	t, err := s.get(id)
	if err != nil {
		return 0, nil, err
	}
	execIDs = []string{""}
	t.mu.Lock()
	defer t.mu.Unlock()
	for execID, p := range t.execs {
		if state, _ := p.look(); state == Running {
			execIDs = append(execIDs, execID)
		}
	}
	return t.sentry.Pid, execIDs, nil
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
