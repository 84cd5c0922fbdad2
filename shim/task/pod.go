package task

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"brig/internal/config"
	"brig/shim/bundle"

	"github.com/containerd/containerd/v2/pkg/identifiers"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// PodRequest is what the Sandbox API asks for.
type PodRequest struct {
	bundle.Pod
	Bundle bundle.Bundle
	Config *config.Config
}

// pod is a sandbox of the Sandbox API. It is planned by its create and made by its
// start, because a containerd that gives up between the two tells nobody. A nil root
// is a pod that is not started.
type pod struct {
	request PodRequest
	root    *Task
	created time.Time
	ending  bool // no more containers

	stopping sync.Mutex // one stop or shutdown at a time
}

// PodStatus of a sandbox of the Sandbox API.
type PodStatus struct {
	PID     int // the sentry's; 0: none was started
	Ready   bool
	Created time.Time
	Exit    Exit // zero: it has not ended
}

// CreatePod plans a pod. Nothing is made yet.
func (s *Shim) CreatePod(r PodRequest) error {
	if err := identifiers.Validate(r.ID); err != nil {
		return fmt.Errorf("create pod: %w", err)
	}
	if r.Hostname == "" {
		name, err := os.Hostname()
		if err != nil {
			return fmt.Errorf("create pod: %w", err)
		}
		r.Hostname = name
	}
	root := s.newHolder(r)
	if _, err := root.planSandbox(); err != nil {
		return fmt.Errorf("create pod: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pod != nil || s.sandbox != nil || len(s.tasks)+len(s.creating) > 0 {
		return fmt.Errorf("create pod %s: this shim has a sandbox: %w", r.ID, errdefs.ErrAlreadyExists)
	}
	s.pod = &pod{request: r, created: time.Now()}
	return nil
}

func (s *Shim) newHolder(r PodRequest) *Task {
	t := s.newRoot(CreateRequest{ID: r.ID, Bundle: r.Bundle, Config: r.Config}, r.Bundle.PodSpec(r.Pod, r.Config.Idle()))
	t.sandbox.holder, t.sandbox.pod = &r, true
	return t
}

// StartPod boots the sandbox and opens it to containers, or leaves nothing of it.
func (s *Shim) StartPod(ctx context.Context, id string) (PodStatus, error) {
	creating, _, release, err := s.reserve(ctx, id)
	if err != nil {
		return PodStatus{}, err
	}
	p, root, err := s.holder(id)
	if err != nil {
		release(nil)
		return PodStatus{}, err
	}
	if root != nil {
		release(nil)
		return PodStatus{}, fmt.Errorf("start pod %s a second time: %w", id, errdefs.ErrFailedPrecondition)
	}
	t := s.newHolder(p.request)
	if err := t.create(creating); err != nil {
		release(nil)
		return PodStatus{}, fmt.Errorf("start pod: %w", err)
	}
	s.mu.Lock()
	p.root = t
	s.mu.Unlock()
	release(t)
	t.watchAll()
	if err := t.start(ctx); err != nil {
		return PodStatus{}, errors.Join(fmt.Errorf("start pod: %w", err), s.StopPod(context.WithoutCancel(ctx), id))
	}
	return s.PodStatus(id)
}

// sharePod gives every container of a pod the same files and shared memory, if
// nobody else does.
func (t *Task) sharePod(spec *specs.Spec) error {
	pod := t.sandbox.holder
	switch {
	case t.sandbox.slot != nil && t.isRoot():
		return t.request.Bundle.MakePodRoot()
	case pod == nil:
		return nil
	case t.isRoot():
		pod.Bundle.SharePodMemory(spec)
		return pod.Bundle.WritePodFiles(pod.Pod)
	}
	pod.Bundle.AddPodMounts(spec)
	return nil
}

func (s *Shim) getPod(id string) (*pod, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pod == nil || s.pod.request.ID != id {
		return nil, fmt.Errorf("pod %s: %w", id, errdefs.ErrNotFound)
	}
	return s.pod, nil
}

// holder returns the pod's root container; nil: it was not started.
func (s *Shim) holder(id string) (*pod, *Task, error) {
	p, err := s.getPod(id)
	if err != nil {
		return nil, nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return p, p.root, nil
}

// PodStatus tells how a pod is.
func (s *Shim) PodStatus(id string) (PodStatus, error) {
	p, t, err := s.holder(id)
	if err != nil {
		return PodStatus{}, err
	}
	status := PodStatus{Created: p.created}
	if t != nil {
		state, exit := t.init.look()
		status.PID, status.Ready, status.Exit = t.sandbox.pid(), state == Running && !t.sandbox.isDead(), exit
	}
	return status, nil
}

// WaitPod blocks until the sandbox has ended.
func (s *Shim) WaitPod(ctx context.Context, id string) (Exit, error) {
	_, t, err := s.holder(id)
	if err != nil {
		return Exit{}, err
	}
	if t == nil {
		return Exit{}, fmt.Errorf("wait for pod %s, which was not started: %w", id, errdefs.ErrFailedPrecondition)
	}
	return t.init.wait(ctx)
}

// StopPod ends the sandbox with every container in it, and returns when its network
// namespace is free. What has ended already is no error. A start under way is given up.
func (s *Shim) StopPod(ctx context.Context, id string) error {
	if err := s.abandonCreate(ctx, id); err != nil {
		return err
	}
	p, t, err := s.holder(id)
	if err != nil || t == nil {
		return err
	}
	p.stopping.Lock()
	defer p.stopping.Unlock()
	return t.stop(ctx)
}

// stop kills the sentry: the holder has nothing to flush.
func (t *Task) stop(ctx context.Context) error {
	if !t.sandbox.isDead() {
		if err := t.conclude(killed); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), deleteTime)
	defer cancel()
	_, err := t.init.wait(ctx)
	return err
}

// ShutdownPod ends the pod and frees all of it, also containers that nobody deleted.
// It may be called for a pod that was never started, and again when it fails.
func (s *Shim) ShutdownPod(ctx context.Context, id string) error {
	p, err := s.getPod(id)
	if err != nil {
		return err
	}
	p.stopping.Lock()
	defer p.stopping.Unlock()
	s.mu.Lock()
	p.ending = true
	s.mu.Unlock()
	if err := s.abandonCreates(ctx); err != nil {
		return err
	}
	if _, t, err := s.holder(id); err != nil {
		return err
	} else if t != nil {
		if err := t.shutdown(ctx); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pod = nil
	return nil
}

// shutdown of a holder frees what has joined it, too.
func (t *Task) shutdown(ctx context.Context) error {
	if err := t.stop(ctx); err != nil {
		return err
	}
	for _, joined := range t.sandbox.shim.list() {
		if err := joined.delete(ctx); err != nil && !errdefs.IsNotFound(err) {
			return err
		}
	}
	return t.delete(ctx)
}

func (s *Shim) list() []*Task {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []*Task
	for _, t := range s.tasks {
		all = append(all, t)
	}
	return all
}
