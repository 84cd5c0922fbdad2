package task

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"brig/internal/config"
	"brig/internal/phases"
	"brig/internal/undo"
	"brig/shim/cgroup"
	"brig/shim/runsc"

	"github.com/containerd/errdefs"
)

// Sandbox is one sentry. It begins with its root container and ends with it.
type Sandbox struct {
	shim   *Shim
	config *config.Config
	root   *Task
	pod    bool        // containers may join
	holder *PodRequest // the root container holds this pod; nil: it is a task
	slot   *waiting    // the root container waits for a program, or has waited; nil: it is one
	held   *held       // it waits with a checkpoint loaded, or has waited; nil: it does not
	block  bool        // no network

	control *runsc.Control
	starter *runsc.Starter
	sentry  *os.Process
	group   *cgroup.Group // nil: not known
	ooms    int           // kills in the group before the sandbox was made
	told    atomic.Int64  // kills that an event has told of
	felled  atomic.Bool   // this shim has killed the sentry
	named   atomic.Bool   // this shim has set its hostname anew
	shares  shares        // of the group's time

	phases *phases.Recorder // nil unless brigd wants to know

	updating sync.Mutex // one update of the limits at a time

	joined sync.WaitGroup // containers that have joined and whose Exited is not told

	mu   sync.Mutex
	dead bool          // the sentry has ended; set before gone is closed
	gone chan struct{} // closed when the sentry has ended
	end  sentryEnd     // valid then
}

// sentryEnd is what the host's kernel tells of a sentry's end.
type sentryEnd struct {
	state *os.ProcessState // nil: lost
	at    time.Time
	oom   bool
	crash bool // nobody wanted it
}

// id of the sandbox: its root container's, containerd's and runsc's alike.
func (b *Sandbox) id() string { return b.root.request.ID }

func (b *Sandbox) pid() int { return b.sentry.Pid }

// boot runs runsc create for the root container and takes the sentry as a child. The
// undo comes first: runsc may be killed half-way.
func (b *Sandbox) boot(ctx context.Context, steps *undo.Stack, o runsc.CreateOptions) error {
	steps.Push("sweep sandbox", func(ctx context.Context) error { return Sweep(ctx, b.root.request.Bundle, b.root.record) })
	var err error
	if b.starter, err = b.root.runsc.Boot(ctx, b.shim.takeLoaded(), b.id(), o); err != nil {
		return err
	}
	data, err := os.ReadFile(o.PIDFile)
	if err != nil {
		return fmt.Errorf("read the sentry's pid: %w", err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil {
		return fmt.Errorf("read the sentry's pid: %w", err)
	}
	// The sentry may have died since, but it stays in the process table until watch
	// waits for it.
	if b.sentry, err = os.FindProcess(pid); err != nil {
		return fmt.Errorf("adopt the sentry: %w", err)
	}
	if err := b.account(); err != nil {
		return err
	}
	if _, err := b.hold(resources(b.root.spec)); err != nil {
		return err
	}
	return b.root.limitThreads()
}

// account finds the sandbox's cgroup. In its maker's nothing would limit it, and it is
// refused, unless it has ended, for the dead are in none. Where there is none to be found an
// OOM kill looks like any other, which is no reason for that.
func (b *Sandbox) account() error {
	group, err := cgroup.Of(b.pid())
	if errors.Is(err, cgroup.ErrShared) && !exited(b.pid()) {
		return err
	}
	if err == nil {
		b.group = &group
		err = group.DieTogether()
	}
	if err == nil {
		b.ooms, err = group.OOMKills()
		b.told.Store(int64(b.ooms))
	}
	if err != nil {
		b.shim.opts.Log.Warn("OOM kills will not be noticed", "sandbox", b.id(), "err", err)
	}
	return nil
}

// exited tells that a process has ended, of one that may not have been waited for.
func exited(pid int) bool {
	_, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid)) // which goes before its groups do
	return err != nil
}

// watch waits for the sentry.
func (b *Sandbox) watch() {
	<-b.starter.Gone() // until then the sentry is its child
	b.starter.Release()
	state, err := b.sentry.Wait()
	end := sentryEnd{state: state, at: time.Now()}
	end.oom = end.killed() && b.oomKilled()
	end.crash = end.signalled() && !end.oom && !b.felled.Load()
	if err != nil {
		b.shim.opts.Log.Error("the sentry's status is lost", "sandbox", b.id(), "err", err)
	}
	if n, err := b.kills(); err == nil && end.oom {
		b.tellOOM(n)
	}
	b.mu.Lock()
	b.dead, b.end = true, end
	b.mu.Unlock()
	close(b.gone)
}

// oomKilled must be asked before runsc removes the cgroup.
func (b *Sandbox) oomKilled() bool {
	if b.group == nil {
		return false
	}
	n, err := b.group.OOMKills()
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		b.shim.opts.Log.Warn("OOM kills are not known", "sandbox", b.id(), "err", err)
	}
	return n > b.ooms
}

func (b *Sandbox) kills() (int, error) {
	if b.group == nil {
		return 0, os.ErrNotExist
	}
	return b.group.OOMKills()
}

// watchOOM tells of kills as they happen: of a sandbox that survives them nobody else would.
func (b *Sandbox) watchOOM() {
	if b.group == nil {
		return
	}
	if err := b.group.WatchOOM(b.gone, b.tellOOM); err != nil {
		b.shim.opts.Log.Warn("OOM kills are told at the sandbox's end alone", "sandbox", b.id(), "err", err)
	}
}

// tellOOM tells of each kill once.
func (b *Sandbox) tellOOM(kills int) {
	if b.told.Swap(int64(kills)) < int64(kills) {
		b.shim.opts.Emit(EventOOM{ID: b.id()})
	}
}

// killed tells that the sentry died of SIGKILL, or its program did.
func (e sentryEnd) killed() bool {
	if e.state == nil {
		return true // for all that is known
	}
	status := e.state.Sys().(syscall.WaitStatus)
	return status.Signaled() && status.Signal() == syscall.SIGKILL || status.Exited() && uint32(status.ExitStatus()) == killed
}

// signalled tells that the host's kernel ended the sentry, which itself exits, whatever
// its program died of.
func (e sentryEnd) signalled() bool {
	return e.state == nil || e.state.Sys().(syscall.WaitStatus).Signaled()
}

// exitCode is the root container's: the sentry exits with it, or with 128 and the
// signal.
func (e sentryEnd) exitCode() uint32 {
	switch {
	case e.oom:
		return killed
	case e.state == nil:
		return failedStart
	}
	status := e.state.Sys().(syscall.WaitStatus)
	if status.Signaled() {
		return 128 + uint32(status.Signal())
	}
	return uint32(status.ExitStatus())
}

// enter counts a container among those whose end must be told before the root's.
func (b *Sandbox) enter() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	state, _ := b.root.init.look()
	if restored := b.slot != nil && b.slot.task == nil; b.dead || state != Running && !restored {
		return fmt.Errorf("join a sandbox that is not running: %w", errdefs.ErrFailedPrecondition)
	}
	b.joined.Add(1)
	return nil
}

func (b *Sandbox) isDead() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.dead
}

// intruded ends a sandbox whose packets could go round its policy.
func (b *Sandbox) intruded(reason error) {
	b.shim.opts.Log.Error("the sandbox is ended", "sandbox", b.id(), "err", errors.Join(reason, b.kill()))
}

func (b *Sandbox) kill() error {
	b.felled.Store(true)
	if err := b.sentry.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("kill the sentry: %w", err)
	}
	return nil
}
