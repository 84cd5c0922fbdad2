package engine

import (
	"context"
	"fmt"
	"time"

	"github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/errdefs"
)

const (
	// lingerWait is how long a create that lost its caller may take to undo itself.
	lingerWait = 3 * time.Second
	// shimWait is how long it may take, after that, to end a shim and to clear what it held.
	shimWait = 10 * time.Second
)

// awaitShim returns once no shim of the sandbox is left, nor what one held. A create whose
// caller died goes on in containerd, which does not show the task meanwhile: what it uses
// must not be taken from under it, or the shim's own clean-up fails. A shim whose start was
// cut off before containerd learned its address stays, in whatever state, with nobody but
// us to end it. What cannot be cleared in time is an error; the next call goes on with it.
func (e *Engine) awaitShim(ctx context.Context, id string) error {
	begin := time.Now()
	for {
		left, err := findShim(e.namespace, id)
		if err != nil || left == nil {
			return err
		}
		if time.Since(begin) > lingerWait+shimWait {
			left.close()
			return errdefs.ErrUnavailable.WithMessage(fmt.Sprintf("shim %d of %s has no task and does not end", left.pid, id))
		}
		known, err := e.hasTask(ctx, id)
		if err == nil && !known && time.Since(begin) > lingerWait {
			err = left.end(ctx)
		}
		left.close()
		if err != nil {
			return err
		}
		if known { // the create has succeeded after all
			return e.endTask(ctx, id)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// hasTask tells whether containerd has a task of the sandbox. That it is away, or that its
// shim does not answer, is an error: a sandbox is not given up for that.
func (e *Engine) hasTask(ctx context.Context, id string) (bool, error) {
	_, err := e.client.TaskService().Get(ctx, &tasks.GetRequest{ContainerID: id})
	if gone(err) != nil {
		return false, fmt.Errorf("look for task %s: %w", id, native(err))
	}
	return err == nil, nil
}
