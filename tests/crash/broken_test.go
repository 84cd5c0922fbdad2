package crash

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	taskapi "github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/containerd/api/types/runtimeoptions/v1"
	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/mount"
	"golang.org/x/sys/unix"
)

// runsc gives the node's configuration with another runsc: a script that begins with
// what is given, with the command as $op, and goes on as the real one. Each command is
// executed by itself, as with a runsc of another build.
func (n *node) runsc(t *testing.T, script string) option { return n.runscAt(t, n.script(t, script)) }

func (n *node) script(t *testing.T, script string) (path string) {
	t.Helper()
	dir, err := os.MkdirTemp(n.dir, "runsc-")
	if err != nil {
		t.Fatal(err)
	}
	real := filepath.Join(n.bin, "deps", "runsc")
	path = filepath.Join(dir, "runsc")
	text := fmt.Sprintf(`#!/bin/sh
unset BRIG_START_FD
for op; do case $op in -*) ;; *) break;; esac; done
%s
exec %s "$@"
`, script, real)
	if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func (n *node) runscAt(t *testing.T, path string) option {
	t.Helper()
	text, err := os.ReadFile(n.configPath())
	if err != nil {
		t.Fatal(err)
	}
	body := strings.Replace(string(text), n.bin+"/deps/runsc", path, 1)
	return withOptions(&runtimeoptions.Options{ConfigBody: []byte(body)})
}

// TestBrokenRunsc: runsc is missing, fails, or dies half-way, at each command.
func TestBrokenRunsc(t *testing.T) {
	t.Parallel()
	n := use(t)
	for name, o := range map[string]option{
		"missing":         n.runscAt(t, n.dir+"/nonexistent"),
		"no program":      n.runscAt(t, n.configPath()),
		"create fails":    n.runsc(t, `[ $op = create ] && { echo no >&2; exit 1; }`),
		"create dies":     n.runsc(t, `[ $op = create ] && { `+n.bin+`/deps/runsc "$@"; kill -9 $$; }`),
		"maybe cut off":   n.runsc(t, `[ $op = create ] && { (sleep 0.03; kill -9 $$) & }`),
		"create is empty": n.runsc(t, `[ $op = create ] && exit 0`),
		"start fails":     n.runsc(t, `[ $op = start ] && exit 1`),
		"start dies":      n.runsc(t, `[ $op = start ] && kill -9 $$`),
		"delete fails":    n.runsc(t, `[ $op = delete ] && exit 1`),
		"delete dies":     n.runsc(t, `[ $op = delete ] && kill -9 $$`),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := n.container(t, []string{"true"}, o)
			began := time.Now()
			err := c.create(n.call(t))
			if err == nil {
				_, err = c.run(n.call(t))
			}
			if err == nil && !strings.HasPrefix(name, "delete") && name != "maybe cut off" {
				t.Error("a broken runsc is not noticed")
			}
			t.Logf("%v after %v", err, time.Since(began).Round(time.Millisecond))
			if err := c.remove(); err != nil {
				t.Error(err)
			}
			wantNothingLeft(t, n, c.id)
		})
	}
}

// TestHangingRunsc: runsc does not end. The client has a deadline, and gets rid of
// everything.
func TestHangingRunsc(t *testing.T) {
	t.Parallel()
	n := use(t)
	for _, op := range []string{"create", "start", "delete"} {
		t.Run(op, func(t *testing.T) {
			t.Parallel()
			c := n.container(t, []string{"sleep", "1000"}, n.runsc(t, fmt.Sprintf(`[ $op = %s ] && while :; do sleep 1; done`, op)))
			step := func(name string, do func(context.Context) error) {
				ctx, cancel := context.WithTimeout(n.call(t), 2*time.Second)
				defer cancel()
				began := time.Now()
				err := do(ctx)
				t.Logf("%s: %v after %v", name, err, time.Since(began).Round(time.Millisecond))
				if took := time.Since(began); took > 9*time.Second {
					t.Errorf("%s took %v", name, took)
				}
			}
			step("create", c.create)
			if c.task != nil {
				step("start", func(ctx context.Context) error { return c.task.Start(ctx) })
			}
			eventually(t, 30*time.Second, c.remove)
			wantNothingLeft(t, n, c.id)
		})
	}
}

// TestHangingPod: a runsc that hangs keeps no pod.
func TestHangingPod(t *testing.T) {
	t.Parallel()
	for i, script := range []string{`[ $op = create ] && while :; do sleep 1; done`, `[ $op = start ] && while :; do sleep 1; done`, `[ $op = delete ] && while :; do sleep 1; done`, `while :; do sleep 1; done`} {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			n := launch(t) // a pod takes the node's configuration
			text, err := os.ReadFile(n.configPath())
			if err != nil {
				t.Fatal(err)
			}
			body := strings.Replace(string(text), n.bin+"/deps/runsc", n.script(t, script), 1)
			if err := os.WriteFile(n.configPath(), []byte(body), 0o644); err != nil {
				t.Fatal(err)
			}
			p := n.newPod()
			if err := p.create(n.call(t)); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(n.call(t), time.Second)
			defer cancel()
			began := time.Now()
			err = p.start(ctx)
			t.Logf("start: %v after %v", err, time.Since(began).Round(time.Millisecond))
			began = time.Now()
			if err := p.remove(n.call(t)); err != nil {
				t.Error(err)
			}
			t.Logf("removed after %v", time.Since(began).Round(time.Millisecond))
			wantNothingLeft(t, n, p.id)
		})
	}
}

// TestBrokenRootfs: a mount fails after others have succeeded.
func TestBrokenRootfs(t *testing.T) {
	t.Parallel()
	n := use(t)
	everywhere(t, func(t *testing.T, o ...option) {
		c := n.container(t, []string{"true"}, o...)
		bad := client.WithRootFS([]mount.Mount{{Type: "bind", Source: "/nonexistent", Options: []string{"bind"}}})
		if _, err := c.NewTask(n.call(t), n.streams(nil, io.Discard), bad); err == nil || !strings.Contains(err.Error(), "mount") {
			t.Errorf("a task on a root that cannot be mounted: %v", err)
		}
		if err := c.remove(); err != nil {
			t.Error(err)
		}
		wantNothingLeft(t, n, c.id)
	})
}

// fill takes all the room of a disk.
func fill(t *testing.T, disk string) {
	t.Helper()
	f, err := os.Create(filepath.Join(disk, "fill"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, size := range []int{1 << 16, 1 << 12, 1} {
		for block := make([]byte, size); err == nil; {
			_, err = f.Write(block)
		}
		if !errors.Is(err, unix.ENOSPC) {
			t.Fatal(err)
		}
		err = nil
	}
}

// TestFullRunDir: there is no room for what runsc keeps of a sandbox.
func TestFullRunDir(t *testing.T) {
	t.Parallel()
	n := use(t)
	disk := n.disk(t, "256k")
	text, err := os.ReadFile(n.configPath())
	if err != nil {
		t.Fatal(err)
	}
	body := strings.Replace(string(text), `"`+n.runDir()+`"`, `"`+disk+`"`, 1)
	o := withOptions(&runtimeoptions.Options{ConfigBody: []byte(body)})
	if code, err := n.container(t, []string{"true"}, o).whole(t); err != nil || code != 0 {
		t.Fatalf("while there is room: %d, %v", code, err)
	}
	fill(t, disk)
	c := n.container(t, []string{"true"}, o)
	if err := c.create(n.call(t)); err == nil {
		t.Error("a task was created without room for its state")
	} else {
		t.Log(err)
	}
	if err := c.remove(); err != nil {
		t.Error(err)
	}
	wantNothingLeft(t, n, c.id)
}

// whole creates, runs and deletes the task.
func (c *container) whole(t *testing.T) (code uint32, err error) {
	if err := c.create(c.n.call(t)); err != nil {
		return 0, err
	}
	if code, err = c.run(c.n.call(t)); err != nil {
		return 0, err
	}
	_, err = c.task.Delete(c.n.call(t))
	return code, err
}

// TestFullBundle: there is no room for what brig keeps in the bundle, at a create, or
// when the program ends: its status is told, though it is not durable.
func TestFullBundle(t *testing.T) {
	t.Parallel()
	n := use(t)
	for _, moment := range []string{"create", "end"} {
		t.Run(moment, func(t *testing.T) {
			disk := n.disk(t, "8m")
			s := n.rawShim(t)
			s.bundle = disk
			s.furnish(t, "sh", "-c", "sleep 0.5; exit 3")
			if moment == "create" {
				fill(t, disk)
				if _, err := s.Create(s.call(t), &taskapi.CreateTaskRequest{ID: s.id, Bundle: s.bundle}); err == nil {
					t.Error("a task was created in a full bundle")
				} else {
					t.Log(err)
				}
				if err := os.Remove(filepath.Join(disk, "fill")); err != nil {
					t.Fatal(err)
				}
			}
			s.live(t, 3, func() {
				if moment == "end" {
					fill(t, disk)
				}
			})
		})
	}
}
