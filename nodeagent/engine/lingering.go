package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

const (
	// lingerWait is how long a create that lost its caller may take to undo itself.
	lingerWait = 3 * time.Second
	// shimWait is how long a shim may take to end that was told to.
	shimWait = 10 * time.Second
)

// awaitShim returns once no shim of the sandbox is left. A create whose caller died
// goes on in containerd, which does not show the task meanwhile: what it uses must
// not be taken from under it, or the shim's own clean-up fails and it stays for ever.
// A shim whose start was cut off before containerd learned its address stays, too,
// with nothing in it, and nobody but us to tell it.
func (e *Engine) awaitShim(ctx context.Context, id string) error {
	begin, told := time.Now(), false
	for {
		left, err := shimOf(id)
		if err != nil || left == 0 {
			return err
		}
		switch waited := time.Since(begin); {
		case waited > lingerWait+shimWait:
			return errdefs.ErrUnavailable.WithMessage(fmt.Sprintf("shim %d of %s has no task and does not end", left, id))
		case waited > lingerWait && !told:
			told = true
			if err := unix.Kill(left, unix.SIGTERM); err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("end shim %d of %s: %w", left, id, err)
			}
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(20 * time.Millisecond):
		}
		// If the create succeeds after all, the task is there now.
		if _, err := e.client.TaskService().Get(ctx, &tasks.GetRequest{ContainerID: id}); err == nil {
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
		dir := filepath.Join("/proc", p.Name())
		line, err := os.ReadFile(filepath.Join(dir, "cmdline"))
		if err == nil && bytes.Contains(line, want) && isOurs(dir) {
			return pid, nil
		}
	}
	return 0, nil
}

// isOurs tells whether a process runs as brigd's own user: anybody may give theirs a
// shim's command line, and would hold up the removal of a sandbox with it.
func isOurs(dir string) bool {
	var st unix.Stat_t
	return unix.Stat(dir, &st) == nil && int(st.Uid) == os.Geteuid()
}
