package execs

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/containerd/errdefs"

	"brig/internal/failpoint"
	"brig/internal/journal"
	"brig/nodeagent/clock"
	"brig/nodeagent/engine"
	"brig/nodeagent/quota"
	"brig/nodeagent/tracing"
)

// startTimeout is how long a program may take to be loaded.
const startTimeout = 90 * time.Second

// Start runs a program and returns once it runs. With an id that was used before it
// returns that exec, which may have ended, or an ErrAlreadyExists if it was another
// program. The caller holds the exec, and must Leave it.
func (m *Manager) Start(ctx context.Context, sb Sandbox, s Spec) (*Exec, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	digest, err := s.digest()
	if err != nil {
		return nil, err
	}
	id := s.ID
	if id == "" {
		id = strings.ToLower(rand.Text())
	}
	x, err := m.claimed(ctx, sb, s, id, digest)
	if err != nil {
		return nil, err
	}
	if x.note.Digest != digest {
		x.Leave()
		return nil, errdefs.ErrAlreadyExists.WithMessage(fmt.Sprintf("exec_id %s was used for another program in %s: choose another one", id, sb.ID))
	}
	return x, nil
}

// claimed returns the exec of that id once it runs, or has run, held.
func (m *Manager) claimed(ctx context.Context, sb Sandbox, s Spec, id, digest string) (*Exec, error) {
	for {
		x, mine := m.register(sb, id)
		if mine {
			// A start that has begun is seen through: half of one is nothing to leave behind.
			if err := x.begin(context.WithoutCancel(ctx), s, digest); err != nil {
				x.refuse(err)
				return nil, err
			}
		}
		err := x.await(ctx)
		if err == nil {
			return x, nil
		}
		x.Leave()
		if !errors.Is(err, errNeverRan) { // else the id is free again
			return nil, err
		}
	}
}

// register returns the exec of that id, held: a new one, or that of an earlier caller.
func (m *Manager) register(sb Sandbox, id string) (x *Exec, mine bool) {
	b := m.box(sb.ID)
	m.mu.Lock()
	defer m.mu.Unlock()
	if x = b.live[id]; x == nil {
		x, mine = m.newExec(sb, id), true
		b.live[id] = x
	}
	x.mu.Lock()
	x.holders++
	x.mu.Unlock()
	return x, mine
}

// await the outcome of whoever starts or adopts it.
func (x *Exec) await(ctx context.Context) error {
	select {
	case <-x.settled:
		return x.fault
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// refuse tells those who wait that there is no such exec.
func (x *Exec) refuse(fault error) {
	x.fault = fault
	x.drop()
	close(x.settled)
}

// begin runs the program, or finds that it ran.
func (x *Exec) begin(ctx context.Context, s Spec, digest string) error {
	x.place()
	err := x.claim(s)
	if errors.Is(err, os.ErrExist) {
		return x.recall()
	}
	if err != nil {
		return err
	}
	if err = x.launch(ctx, s, digest); err != nil {
		x.uncount()
		return errors.Join(err, x.folder.remove())
	}
	close(x.settled)
	return nil
}

// claim the id, if the sandbox can run programs and has room for another one.
func (x *Exec) claim(s Spec) error {
	if x.sb.Refusal != nil {
		if s.ID != "" && x.folder.there() {
			return os.ErrExist
		}
		return x.sb.Refusal
	}
	if x.crowded() && !x.folder.there() {
		return errdefs.ErrResourceExhausted.WithMessage("the node's disk is full, and so is the memory that programs are run from then: make room, or end some")
	}
	if !x.count(s.Keep) && s.Keep {
		return errdefs.ErrResourceExhausted.WithMessage(fmt.Sprintf(
			"sandbox %s has %d execs on record: run others without an exec_id, or in another sandbox", x.sb.ID, MaxKept))
	}
	err := x.claimFolder(s)
	if err != nil {
		x.uncount()
		return err
	}
	failpoint.Hit("exec.claimed")
	return nil
}

// launch does what leaves something behind; the folder is there, and is removed if it
// fails.
func (x *Exec) launch(ctx context.Context, s Spec, digest string) (err error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	x.note = note{Digest: digest, Kept: s.Keep, TTY: s.TTY, Stdin: s.Stdin, Block: s.Block, Max: x.max, Boot: x.m.Boot, Began: time.Now().UTC()}
	if s.Timeout > 0 {
		now, err := clock.Now()
		if err != nil {
			return err
		}
		x.note.Due = now + s.Timeout
	}
	release, err := x.m.Quota.Take(x.sb.Owner, quota.Execs, 1)
	if err != nil {
		return err
	}
	x.wake(release)
	if err := x.run(ctx, s); err != nil {
		x.rest(time.Now())
		x.m.Figures.ExecFailed()
		return err
	}
	x.runs()
	x.arm()
	return nil
}

func (x *Exec) run(ctx context.Context, s Spec) error {
	if err := x.folder.write(noteFile, x.note); err != nil {
		return err
	}
	failpoint.Hit("exec.noted")
	p, err := x.program(s)
	if err != nil {
		return err
	}
	starting, done := tracing.Start(ctx, "start")
	err = x.m.Runtime.RunExec(starting, p)
	if errdefs.IsNotImplemented(err) {
		p.Stdout, p.Stderr = x.outputs(s.TTY, false)
		err = x.runInTwo(starting, p)
	}
	if done(err); err != nil {
		return errors.Join(x.noSandbox(err), x.undo(ctx))
	}
	failpoint.Hit("exec.started")
	x.m.wg.Go(x.watch)
	return nil
}

// undo a start that failed. It may run, if it is the answer that was lost.
func (x *Exec) undo(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTimeout)
	defer cancel()
	return x.forget(ctx)
}

// runInTwo is for a shim that does not take one call for both: that of an earlier brig, or
// one that the call has reached too late.
func (x *Exec) runInTwo(ctx context.Context, p engine.Program) error {
	if err := x.m.Runtime.AddExec(ctx, p); err != nil {
		return err
	}
	return x.m.Runtime.StartExec(ctx, p)
}

// program names the streams; the shim makes the journals of output.
func (x *Exec) program(s Spec) (engine.Program, error) {
	p := engine.Program{
		Sandbox: string(x.sb.ID), ID: x.inRuntime(), Argv: s.Argv, Env: s.Env, Workdir: s.Workdir,
		TTY: s.TTY, Columns: s.Size.Columns, Rows: s.Size.Rows,
	}
	p.Stdout, p.Stderr = x.outputs(s.TTY, s.Late)
	if s.Stdin {
		path := x.folder.path(stdinFile)
		if err := journal.CreateInput(path); err != nil {
			return p, disk("make the stdin of an exec", err)
		}
		input, err := journal.OpenInput(path)
		if err != nil {
			return p, err
		}
		x.input, p.Stdin = input, journal.InputURI(path)
	}
	return p, nil
}

// outputs are the names of the streams.
func (x *Exec) outputs(tty, late bool) (stdout, stderr string) {
	out, err := x.journal(stdoutFile), x.journal(stderrFile)
	out.Late, err.Late = late, late
	if tty {
		return out.URI(), ""
	}
	return out.URI(), err.URI()
}

// noSandbox says so if a program did not start because its sandbox has ended.
func (x *Exec) noSandbox(err error) error {
	if _, exit := x.sb.Fate(); exit != nil || isClosed(x.sb.Ended) || errdefs.IsNotFound(err) {
		return errdefs.ErrFailedPrecondition.WithMessage(fmt.Sprintf("sandbox %s has ended: create another one", x.sb.ID))
	}
	return err
}
