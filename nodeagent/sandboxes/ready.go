package sandboxes

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/containerd/errdefs"

	"brig/nodeagent/engine"
	"brig/nodeagent/program"
	"brig/nodeagent/record"
)

// What one try may take to be cleared away, and what is told of its output.
const (
	probeRelease = 30 * time.Second
	probeOutput  = 4 << 10
	probeTold    = 200
)

// awaitReady returns once the sandbox's probe has succeeded. It fails with an
// ErrFailedPrecondition when the probe's time is up, or when the sandbox's program ends
// before; with the cause of ctx when nobody waits any more.
func (m *Manager) awaitReady(ctx context.Context, rec *record.Record) error {
	p := rec.Request.Ready
	if p == nil {
		return nil
	}
	timeUp := errors.New("time is up")
	trying, cancel := context.WithTimeoutCause(ctx, p.Timeout, timeUp)
	defer cancel()
	trying, end := context.WithCancelCause(trying)
	defer end(nil)
	m.wg.Go(func() { m.endProbe(trying, rec, end) })
	last := errors.New("there was no time for a try")
	for trying.Err() == nil {
		err := m.probe(trying, rec, p)
		if err == nil {
			return nil
		}
		if trying.Err() == nil {
			last = err
		}
		sleep(trying, p.Interval)
	}
	if cause := context.Cause(trying); !errors.Is(cause, timeUp) {
		return cause
	}
	return errdefs.ErrFailedPrecondition.WithMessage(fmt.Sprintf("the sandbox was not ready within %v: %v", p.Timeout, last))
}

// endProbe ends the tries when the sandbox's program has ended.
func (m *Manager) endProbe(ctx context.Context, rec *record.Record, end context.CancelCauseFunc) {
	for ctx.Err() == nil {
		status, _, err := m.runtime.Wait(ctx, string(rec.ID))
		if err == nil {
			end(errdefs.ErrFailedPrecondition.WithMessage(fmt.Sprintf("the sandbox's program ended with status %d before it was ready", status)))
			return
		}
		if errdefs.IsNotFound(err) {
			end(errdefs.ErrFailedPrecondition.WithMessage("the sandbox's kernel died before it was ready"))
			return
		}
		sleep(ctx, retryWait)
	}
}

// probe tries once.
func (m *Manager) probe(ctx context.Context, rec *record.Record, p *record.Probe) error {
	if p.Port == 0 {
		return m.probeExec(ctx, rec, p.Argv)
	}
	conn, err := m.network.Dial(ctx, netip.AddrPortFrom(rec.Address, p.Port))
	if err != nil {
		return fmt.Errorf("connect to port %d: %w", p.Port, err)
	}
	return conn.Close()
}

func (m *Manager) probeExec(ctx context.Context, rec *record.Record, argv []string) error {
	ps, err := m.runtime.Exec(ctx, engine.Program{Sandbox: string(rec.ID), ID: "r-" + rand.Text()[:16], Argv: argv})
	if err != nil {
		return err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), probeRelease)
		defer cancel()
		if err := ps.Release(ctx); err != nil {
			m.log.Warn("remove the exec of a probe", "sandbox", rec.ID, "err", err)
		}
	}()
	stdout, stderr := program.NewBuffer(probeOutput), program.NewBuffer(probeOutput)
	exit, err := program.Run(ctx, ps, 0, program.Stream{From: ps.Stdout, To: stdout}, program.Stream{From: ps.Stderr, To: stderr})
	if err != nil {
		return err
	}
	if exit.Code != 0 {
		return fmt.Errorf("%.64q exits with %d: %.*q", argv[0], exit.Code, probeTold, lastLine(stderr.Bytes(), stdout.Bytes()))
	}
	return nil
}

// lastLine of the first output that has one.
func lastLine(outputs ...[]byte) string {
	for _, out := range outputs {
		if text := bytes.TrimSpace(out); len(text) > 0 {
			return string(text[bytes.LastIndexByte(text, '\n')+1:])
		}
	}
	return ""
}
