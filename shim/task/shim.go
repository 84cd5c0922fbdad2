package task

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"

	"brig/internal/config"
	"brig/shim/gate"

	"github.com/containerd/errdefs"
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
	GPUs      GPUs        // nil: there are none
	Emit      func(Event) // must not block
	Log       *slog.Logger
}

// Shim holds at most one sandbox, and its tasks.
type Shim struct {
	opts Options

	mu       sync.Mutex
	pod      *pod // of the Sandbox API; nil: none
	sandbox  *Sandbox
	tasks    map[string]*Task
	creating map[string]creation

	loaded loaded
}

// creation is a create under way.
type creation struct {
	cancel context.CancelCauseFunc
	over   chan struct{} // closed when it has ended
}

// New returns a Shim without a sandbox.
func New(opts Options) *Shim {
	return &Shim{opts: opts, tasks: make(map[string]*Task), creating: make(map[string]creation)}
}

// get returns the task id.
func (s *Shim) get(id string) (*Task, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.tasks[id]
	if t == nil {
		return nil, fmt.Errorf("task %s: %w", id, errdefs.ErrNotFound)
	}
	return t, nil
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
	return s.pod == nil && s.unused()
}

// Unused tells that there is no sandbox, nor one on its way. A pod may be planned.
func (s *Shim) Unused() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.unused()
}

func (s *Shim) unused() bool { return s.sandbox == nil && len(s.tasks) == 0 && len(s.creating) == 0 }

// PID is the sentry's, of a task or of a pod; 0 if there is none. Every process of a
// sandbox lives in it, so it is the pid of execs too: a pid inside the sandbox means
// nothing on the host.
func (s *Shim) PID(id string) int {
	if t, err := s.get(id); err == nil {
		return t.sandbox.pid()
	}
	status, _ := s.PodStatus(id)
	return status.PID
}

// reserve takes the name id for a create, and tells which sandbox it joins; nil: it
// makes the shim's sandbox. The create ends when its context does; release must be called
// with what came of it.
func (s *Shim) reserve(parent context.Context, id string) (ctx context.Context, join *Sandbox, release func(*Task), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.tasks[id] != nil || s.creating[id].over != nil:
		return nil, nil, nil, fmt.Errorf("create task %s: the shim has it: %w", id, errdefs.ErrAlreadyExists)
	case s.pod != nil && s.pod.ending:
		return nil, nil, nil, fmt.Errorf("create task %s: pod %s is being shut down: %w", id, s.pod.request.ID, errdefs.ErrFailedPrecondition)
	case s.pod != nil && s.sandbox == nil && s.pod.request.ID != id:
		return nil, nil, nil, fmt.Errorf("create task %s: pod %s does not run: %w", id, s.pod.request.ID, errdefs.ErrFailedPrecondition)
	case s.sandbox != nil && !s.sandbox.pod:
		return nil, nil, nil, fmt.Errorf("create task %s: this shim has a task whose sandbox is its own: %w", id, errdefs.ErrAlreadyExists)
	case s.sandbox == nil && len(s.tasks)+len(s.creating) > 0:
		return nil, nil, nil, fmt.Errorf("create task %s: this shim's sandbox is not there yet, or not any more: %w", id, errdefs.ErrFailedPrecondition)
	}
	ctx, cancel := context.WithCancelCause(parent)
	over := make(chan struct{})
	s.creating[id] = creation{cancel, over}
	return ctx, s.sandbox, func(t *Task) {
		cancel(nil)
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.creating, id)
		close(over)
		if t == nil {
			return
		}
		if t.isSole() {
			s.sandbox = t.sandbox
		}
		if !t.isHolder() {
			s.tasks[id] = t
		}
	}, nil
}

// errAbandoned is why a create that was given up fails.
var errAbandoned = fmt.Errorf("the create was given up: %w", errdefs.ErrUnavailable)

// abandonCreate ends a create under way and waits for its end: containerd, whose own
// caller went away in the middle of it, deletes and shuts down at once, and would leave
// what comes after. A create may wait for ever for the reader of an output.
func (s *Shim) abandonCreate(ctx context.Context, id string) error {
	s.mu.Lock()
	c := s.creating[id]
	s.mu.Unlock()
	if c.over == nil {
		return nil
	}
	c.cancel(errAbandoned)
	select {
	case <-c.over:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for the end of a create: %w", context.Cause(ctx))
	}
}

// abandonCreates ends all creates under way.
func (s *Shim) abandonCreates(ctx context.Context) error {
	s.mu.Lock()
	ids := slices.Collect(maps.Keys(s.creating))
	s.mu.Unlock()
	for _, id := range ids {
		if err := s.abandonCreate(ctx, id); err != nil {
			return err
		}
	}
	return nil
}

// forget drops a task that was freed, and with the root container the sandbox.
func (s *Shim) forget(t *Task) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !t.isHolder() {
		delete(s.tasks, t.request.ID)
	}
	if t.isRoot() {
		s.sandbox = nil
	}
}
