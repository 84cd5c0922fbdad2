package engine

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/errdefs"
)

// lingerWait is how long a create that lost its caller may take to undo itself.
const lingerWait = 15 * time.Second

// awaitShim returns once no shim of the sandbox is left. A create whose caller died
// goes on in containerd, which does not show the task meanwhile: what it uses must
// not be taken from under it, or the shim's own clean-up fails and it stays for ever.
func (e *Engine) awaitShim(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(ctx, lingerWait)
	defer cancel()
	for {
		left, err := shimOf(id)
		if err != nil {
			return err
		}
		if left == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return errdefs.ErrUnavailable.WithMessage(fmt.Sprintf("shim %d of %s has no task and does not end", left, id))
		case <-time.After(20 * time.Millisecond):
		}
		// If the create succeeds after all, the task is there now.
		_, err = e.client.TaskService().Get(ctx, &tasks.GetRequest{ContainerID: id})
		if err == nil {
			return e.endTask(ctx, id)
		}
	}
}

// shimOf finds a shim's process, being started or serving, by the id that containerd
// gives it on its command line; 0 if there is none.
func shimOf(id string) (pid int, err error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return 0, fmt.Errorf("look for shims: %w", err)
	}
	want := []byte("\x00-id\x00" + id + "\x00")
	for _, p := range entries {
		pid, err := strconv.Atoi(p.Name())
		if err != nil {
			continue
		}
		line, err := os.ReadFile(filepath.Join("/proc", p.Name(), "cmdline"))
		if err == nil && bytes.Contains(line, want) {
			return pid, nil
		}
	}
	return 0, nil
}
