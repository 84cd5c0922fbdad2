package crash

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"brig/internal/sandbox"

	"github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"
)

// TestManyCreates runs 64 programs, all asked for at once.
func TestManyCreates(t *testing.T) {
	n := use(t)
	const many = 64
	errs := make([]error, many)
	var all sync.WaitGroup
	began := time.Now()
	for i := range many {
		all.Go(func() { errs[i] = n.runOne(uint32(i)) })
	}
	all.Wait()
	t.Logf("%d programs in %v", many, time.Since(began).Round(time.Millisecond))
	if err := errors.Join(errs...); err != nil {
		t.Error(err)
	}
	wantNothingLeft(t, n, "")
}

// runOne has the patience of everybody at once.
func (n *node) runOne(code uint32) (err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	ctx = namespaces.WithNamespace(ctx, n.namespace())
	c, err := n.newContainer(ctx, string(sandbox.NewID()), []string{"sh", "-c", "echo $0; exit $0", fmt.Sprint(code)})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.remove()) }()
	var out bytes.Buffer
	if err := c.createWith(ctx, n.streams(nil, &out)); err != nil {
		return fmt.Errorf("create: %w", err)
	}
	got, err := c.run(ctx)
	if err != nil {
		return err
	}
	if _, err := c.task.Delete(ctx); err != nil {
		return fmt.Errorf("delete: %w", err)
	}
	if got != code || out.String() != fmt.Sprintln(code) {
		return fmt.Errorf("status %d and output %q, want %d and the same", got, out.String(), code)
	}
	return nil
}

// TestManyExecs runs 32 programs in one sandbox at once, twice: the second time in a
// container of a pod.
func TestManyExecs(t *testing.T) {
	t.Parallel()
	n := use(t)
	for name, options := range map[string]func(t *testing.T) []option{
		"task": func(*testing.T) []option { return nil },
		"pod":  func(t *testing.T) []option { return []option{in(n.pod(t))} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := n.started(t, []string{"sleep", "1000"}, options(t)...)
			const many = 32
			errs := make([]error, many)
			var all sync.WaitGroup
			for i := range many {
				all.Go(func() {
					code, err := c.exec(n.call(t), "sh", "-c", fmt.Sprintf("sleep 0.1; exit %d", i))
					if err == nil && code != uint32(i) {
						err = fmt.Errorf("status %d, want %d", code, i)
					}
					errs[i] = err
				})
			}
			all.Wait()
			if err := errors.Join(errs...); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestRaces calls two things at once that do not go together. What they answer is
// theirs to say, but in time; afterwards the task can be deleted.
func TestRaces(t *testing.T) {
	t.Parallel()
	n := use(t)
	rng := chance(t.Name())
	made := func(t *testing.T, o ...option) *container {
		c := n.container(t, []string{"sleep", "1000"}, o...)
		if err := c.create(n.call(t)); err != nil {
			t.Fatal(err)
		}
		return c
	}
	running := func(t *testing.T, o ...option) *container { return n.started(t, []string{"sleep", "1000"}, o...) }
	fresh := func(t *testing.T, o ...option) *container { return n.container(t, []string{"sleep", "1000"}, o...) }
	ended := func(t *testing.T, o ...option) *container {
		c := running(t, o...)
		if _, _, err := c.stop(n.call(t)); err != nil {
			t.Fatal(err)
		}
		return c
	}
	create := func(ctx context.Context, c *container) error { return c.create(ctx) }
	start := func(ctx context.Context, c *container) error {
		_, err := n.client.TaskService().Start(ctx, &tasks.StartRequest{ContainerID: c.id})
		return ignore(err)
	}
	kill := func(ctx context.Context, c *container) error {
		_, err := n.client.TaskService().Kill(ctx, &tasks.KillRequest{ContainerID: c.id, Signal: uint32(syscall.SIGKILL)})
		return ignore(err)
	}
	remove := func(ctx context.Context, c *container) error {
		_, err := n.client.TaskService().Delete(ctx, &tasks.DeleteTaskRequest{ContainerID: c.id})
		return ignore(err)
	}
	exec := func(ctx context.Context, c *container) error {
		_, err := c.exec(ctx, "true")
		return ignore(err)
	}
	for _, race := range []struct {
		name string
		from func(*testing.T, ...option) *container
		a, b func(context.Context, *container) error
	}{
		{"create and kill", fresh, create, kill},
		{"create and delete", fresh, create, remove},
		{"start and start", made, start, start},
		{"start and kill", made, start, kill},
		{"start and delete", made, start, remove},
		{"exec and kill", running, exec, kill},
		{"kill and kill", running, kill, kill},
		{"kill and delete", running, kill, remove},
		{"delete and delete", ended, remove, remove},
	} {
		for _, where := range []string{"task", "pod"} {
			for range rounds() {
				delay := time.Duration(rng.Int64N(100e6))
				if race.name == "delete and delete" || race.name == "kill and kill" {
					delay /= 10
				}
				t.Run(fmt.Sprintf("%s/%s/%v", race.name, where, delay.Round(time.Millisecond)), func(t *testing.T) {
					t.Parallel()
					var o []option
					if where == "pod" {
						o = append(o, in(n.pod(t)))
					}
					c := race.from(t, o...)
					var both sync.WaitGroup
					for i, do := range []func(context.Context, *container) error{race.a, race.b} {
						both.Go(func() {
							time.Sleep(time.Duration(i) * delay)
							began := time.Now()
							if err := do(n.call(t), c); err != nil {
								t.Logf("%d: %v", i, err)
							}
							if took := time.Since(began); took > patience/2 {
								t.Errorf("%d took %v", i, took)
							}
						})
					}
					both.Wait()
					if err := c.remove(); err != nil {
						t.Error(err)
					}
					wantNothingLeft(t, n, c.id)
				})
			}
		}
	}
}

// ignore keeps what is no answer but a fault.
func ignore(err error) error {
	err = errgrpc.ToNative(err)
	if errdefs.IsNotFound(err) || errdefs.IsFailedPrecondition(err) || errdefs.IsAlreadyExists(err) {
		return nil
	}
	return err
}

// TestLongLivedPod: what the shim of a pod holds does not grow with the containers that
// come and go.
func TestLongLivedPod(t *testing.T) {
	n := use(t)
	p := n.pod(t)
	shim := victims["shim"].find(n, p.id)
	turn := func() {
		for name, live := range map[string]func(c *container) error{
			"ends":    func(c *container) error { _, err := c.run(n.call(t)); return err },
			"created": func(*container) error { return nil },
			"killed": func(c *container) error {
				if err := c.task.Start(n.call(t)); err != nil {
					return err
				}
				_, err := c.exec(n.call(t), "true")
				_, _, errStop := c.stop(n.call(t))
				return errors.Join(err, errStop)
			},
		} {
			argv := []string{"true"}
			if name == "killed" {
				argv = []string{"sleep", "1000"}
			}
			c := n.container(t, argv, in(p))
			if err := c.create(n.call(t)); err != nil {
				t.Fatal(err)
			}
			if err := live(c); err != nil {
				t.Fatal(name, err)
			}
			if err := c.remove(); err != nil {
				t.Fatal(name, err)
			}
		}
		refused := n.container(t, []string{"nonexistent"}, in(p))
		if err := refused.create(n.call(t)); err == nil {
			t.Fatal("a program that is not there was created")
		}
		broken := n.container(t, []string{"/etc/passwd"}, in(p))
		if err := broken.create(n.call(t)); err == nil {
			t.Fatal("a program that is none was created")
		}
		if err := errors.Join(refused.remove(), broken.remove()); err != nil {
			t.Fatal(err)
		}
	}
	turn()
	turn()
	turns := 8
	if *long {
		turns = 200
	}
	before := n.holds(shim)
	for range turns {
		turn()
	}
	var after holding
	eventually(t, settleTime, func() error {
		if after = n.holds(shim); after.more(before) {
			return fmt.Errorf("after %d containers the shim holds %+v, before %+v", turns, after, before)
		}
		return nil
	})
	t.Logf("before %+v, after %d containers %+v", before, turns, after)
}

// holding is what a shim holds.
type holding struct{ fds, threads, children, zombies, goroutines int }

// more than before, by what cannot be chance.
func (h holding) more(before holding) bool {
	return h.fds > before.fds || h.goroutines > before.goroutines || h.children > before.children || h.zombies > before.zombies || h.threads > before.threads+6
}

func (n *node) holds(pid int) (h holding) {
	h.goroutines = n.goroutines(pid)
	proc := fmt.Sprintf("/proc/%d", pid)
	fds, _ := os.ReadDir(proc + "/fd")
	threads, _ := os.ReadDir(proc + "/task")
	h.fds, h.threads = len(fds), len(threads)
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range stats {
		data, _ := os.ReadFile(path)
		_, rest, ok := strings.Cut(string(data), ") ")
		fields := strings.Fields(rest)
		if !ok || len(fields) < 2 || fields[1] != fmt.Sprint(pid) {
			continue
		}
		h.children++
		if fields[0] == "Z" {
			h.zombies++
		}
	}
	return h
}

// goroutines asks a shim for their stacks, which it writes to its log.
func (n *node) goroutines(pid int) int {
	before, _ := os.ReadFile(n.logPath())
	if syscall.Kill(pid, syscall.SIGUSR1) != nil {
		return -1
	}
	for range 100 {
		time.Sleep(20 * time.Millisecond)
		after, _ := os.ReadFile(n.logPath())
		if dump := string(after[len(before):]); strings.Contains(dump, "END goroutine stack dump") {
			return strings.Count(dump, `\ngoroutine `)
		}
	}
	return -1
}
