package crash

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A victim is one of the processes behind a container.
type victim struct {
	exe  string
	word string // in its command line
	not  string // not in it
}

var victims = map[string]victim{
	"shim":         {exe: "containerd-shim-brig-v1", word: " -id ", not: " -publish-binary "},
	"sentry":       {exe: "gvisor_sentry"},
	"gofer":        {exe: "runsc", word: " gofer "},
	"runsc create": {exe: "runsc", word: " create ", not: " gofer "},
	"runsc start":  {exe: "runsc", word: " start "},
	"runsc delete": {exe: "runsc", word: " delete "},
	"cleaner":      {exe: "containerd-shim-brig-v1", word: " -bundle "},
}

// find returns the process of the container or pod id; 0: there is none. A shim is found
// once containerd has connected to it: for one that dies before, containerd does not run
// the delete verb, and its socket stays until a shim of that id takes it over.
func (v victim) find(n *node, id string) int {
	if v == victims["shim"] {
		if connected, _ := filepath.Glob(n.dir + "/state/*/*/" + id + "/bootstrap.json"); len(connected) == 0 {
			return 0
		}
	}
	for pid, cmdline := range n.processes(id) {
		exe, _ := os.Readlink(filepath.Join("/proc", fmt.Sprint(pid), "exe"))
		text := " " + cmdline + " "
		if filepath.Base(exe) == v.exe && strings.Contains(text, v.word) && (v.not == "" || !strings.Contains(text, v.not)) {
			return pid
		}
	}
	return 0
}

// kill waits for the victim to be there, then for delay, and kills it. It gives up
// when over is closed.
func (v victim) kill(n *node, id string, delay time.Duration, over <-chan struct{}) (killed bool) {
	for {
		if pid := v.find(n, id); pid != 0 {
			time.Sleep(delay)
			return syscall.Kill(pid, syscall.SIGKILL) == nil
		}
		select {
		case <-over:
			return false
		case <-time.After(time.Millisecond):
		}
	}
}

// phase of a life.
type phase struct {
	name string
	run  func(context.Context) error
}

// lives of a program that does not end by itself.
func (c *container) life() []phase {
	return []phase{
		{"create", c.create},
		{"start", func(ctx context.Context) error { return c.task.Start(ctx) }},
		{"run", func(context.Context) error { time.Sleep(30 * time.Millisecond); return nil }},
		{"exec", func(ctx context.Context) error { _, err := c.exec(ctx, "sleep", "0.05"); return err }},
		{"kill", func(ctx context.Context) error {
			_, known, err := c.stop(ctx)
			if err == nil && !known {
				err = errors.New("the task is gone")
			}
			return err
		}},
		{"delete", func(ctx context.Context) error { _, err := c.task.Delete(ctx); return err }},
	}
}

// cases are the victims in each phase, and how late they die at most.
var cases = map[string]map[string]time.Duration{
	"create": {"shim": 150e6, "sentry": 60e6, "gofer": 60e6, "runsc create": 80e6},
	"start":  {"shim": 60e6, "sentry": 60e6, "gofer": 60e6, "runsc start": 40e6},
	"run":    {"shim": 30e6, "sentry": 30e6, "gofer": 30e6},
	"exec":   {"shim": 80e6, "sentry": 80e6, "gofer": 80e6},
	"kill":   {"shim": 30e6, "sentry": 30e6, "gofer": 30e6},
	"delete": {"shim": 60e6, "runsc delete": 30e6},
}

// rounds of each case.
func rounds() int {
	if *long {
		return 20
	}
	return 1
}

// sweep calls one with each case and a moment for it, in parallel.
func sweep(t *testing.T, one func(t *testing.T, phase, who string, delay time.Duration)) {
	rng := chance(t.Name())
	for phase, of := range cases {
		for who, most := range of {
			for range rounds() {
				delay := time.Duration(rng.Int64N(int64(most)))
				t.Run(fmt.Sprintf("%s/%s/%v", phase, strings.ReplaceAll(who, " ", "-"), delay.Round(time.Millisecond)), func(t *testing.T) {
					t.Parallel()
					one(t, phase, who, delay)
				})
			}
		}
	}
}

// through runs a life up to the end of a phase, in which a victim dies after delay.
func through(t *testing.T, n *node, life []phase, last, id, who string, delay time.Duration) (killed bool) {
	t.Helper()
	for _, p := range life {
		ctx := n.call(t)
		if p.name != last {
			if err := p.run(ctx); err != nil {
				t.Fatalf("%s: %v", p.name, err)
			}
			continue
		}
		over, done := make(chan struct{}), make(chan bool)
		go func() { done <- victims[who].kill(n, id, delay, over) }()
		began := time.Now()
		err := p.run(ctx)
		close(over)
		killed = <-done
		t.Logf("%s: %v after %v, killed: %v", p.name, err, time.Since(began).Round(time.Millisecond), killed)
		if time.Since(began) > patience-time.Second {
			t.Errorf("%s took %v", p.name, time.Since(began))
		}
		break
	}
	return killed
}

// TestKillTask kills each part of a task at some moment of each phase of its life.
func TestKillTask(t *testing.T) {
	t.Parallel()
	n := use(t)
	sweep(t, func(t *testing.T, last, who string, delay time.Duration) {
		c := n.container(t, []string{"sleep", "1000"})
		killed := through(t, n, c.life(), last, c.id, who, delay)
		n.afterwards(t, c, last, who, killed)
		wantNothingLeft(t, n, c.id)
	})
}

// TestKillPod does the same to a container of a pod which has another one.
func TestKillPod(t *testing.T) {
	t.Parallel()
	n := use(t)
	sweep(t, func(t *testing.T, last, who string, delay time.Duration) {
		p := n.pod(t)
		other := n.started(t, []string{"sleep", "1000"}, in(p))
		c := n.container(t, []string{"sleep", "1000"}, in(p))
		id := c.id
		if who == "shim" || who == "sentry" {
			id = p.id
		}
		killed := through(t, n, c.life(), last, id, who, delay)
		n.afterwards(t, c, last, who, killed)
		if code, known, err := other.stop(n.call(t)); err != nil || known && code != 137 {
			t.Errorf("the other container: status %d, %v", code, err)
		}
		if err := errors.Join(c.remove(), other.remove()); err != nil {
			t.Error(err)
		}
		wantNothingLeft(t, n, c.id)
		wantNothingLeft(t, n, other.id)
	})
}

// TestKillPodItself kills what makes and unmakes a pod.
func TestKillPodItself(t *testing.T) {
	t.Parallel()
	n := use(t)
	rng := chance(t.Name())
	for _, tc := range []struct {
		phase, who string
		most       int64
	}{
		{"create", "shim", 20e6}, {"start", "shim", 150e6}, {"start", "sentry", 60e6}, {"start", "gofer", 60e6},
		{"start", "runsc create", 60e6}, {"start", "runsc start", 30e6}, {"stop", "shim", 20e6}, {"stop", "sentry", 20e6},
		{"shutdown", "shim", 60e6}, {"shutdown", "runsc delete", 30e6},
	} {
		for range rounds() {
			delay := time.Duration(rng.Int64N(tc.most))
			t.Run(tc.phase+"/"+strings.ReplaceAll(tc.who, " ", "-"), func(t *testing.T) {
				t.Parallel()
				p := n.newPod()
				through(t, n, []phase{
					{"create", p.create}, {"start", p.start},
					{"stop", func(ctx context.Context) error { return p.controller().Stop(ctx, p.id) }},
					{"shutdown", func(ctx context.Context) error { return p.controller().Shutdown(ctx, p.id) }},
				}, tc.phase, p.id, tc.who, delay)
				if err := p.remove(n.call(t)); err != nil {
					t.Errorf("remove: %v", err)
				}
				wantNothingLeft(t, n, p.id)
			})
		}
	}
}

// afterwards asks for the status and deletes the task.
func (n *node) afterwards(t *testing.T, c *container, last, who string, killed bool) {
	t.Helper()
	if who == "shim" && killed && last != "create" {
		n.events.want(t, c.id, 137)
	}
	code, known, err := c.stop(n.call(t))
	if err != nil {
		t.Errorf("stop: %v", err)
	}
	if known && code != 137 && code != 255 {
		t.Errorf("status %d, want 137, or 255 for what was never started", code)
	}
	if known && code == 255 && (last == "run" || last == "exec" || last == "kill") {
		t.Errorf("status %d, want 137", code)
	}
	if err := c.deleteTask(n.call(t)); err != nil {
		t.Errorf("delete: %v", err)
	}
	if _, err := c.Task(n.call(t), nil); err == nil {
		t.Error("a deleted task is there")
	}
}

// TestKillCleaner kills the shim, and then the delete verb that cleans up after it: the
// next containerd asks for it again.
func TestKillCleaner(t *testing.T) {
	t.Parallel()
	n := launch(t)
	rng := chance(t.Name())
	var all []*container
	for range 4 * rounds() {
		c := n.started(t, []string{"sleep", "1000"})
		over, done := make(chan struct{}), make(chan bool)
		delay := time.Duration(rng.Int64N(40e6))
		go func() { done <- victims["cleaner"].kill(n, c.id, delay, over) }()
		if !victims["shim"].kill(n, c.id, 0, nil) {
			t.Fatal("no shim to kill")
		}
		time.Sleep(300 * time.Millisecond)
		close(over)
		t.Logf("after %v, killed: %v", delay.Round(time.Millisecond), <-done)
		all = append(all, c)
	}
	if err := n.end(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := n.start(); err != nil {
		t.Fatal(err)
	}
	for _, c := range all {
		if err := c.remove(); err != nil {
			t.Error(err)
		}
		wantNothingLeft(t, n, c.id)
	}
}
