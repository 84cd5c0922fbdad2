package sandboxes

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/containerd/errdefs"

	"brig/nodeagent/clock"
	"brig/nodeagent/execs"
	"brig/nodeagent/record"
)

// What is read of a try's output, and what is told of it.
const (
	probeOutput = 4 << 10
	probeTold   = 200
)

// awaitReady returns once the sandbox's probe, which there is, has succeeded. It fails with an
// ErrFailedPrecondition when the probe's time is up, or when the sandbox's program ends
// before; with the cause of ctx when nobody waits any more.
func (m *Manager) awaitReady(ctx context.Context, rec *record.Record) error {
	p := rec.Request.Ready
	timeUp := errors.New("time is up")
	trying, cancel := context.WithTimeoutCause(ctx, p.Timeout, timeUp)
	defer cancel()
	trying, end := context.WithCancelCause(trying)
	defer end(nil)
	m.wg.Go(func() { m.endProbe(trying, rec, end) })
	noTry := errors.New("there was no time for a try")
	last := noTry
	for trying.Err() == nil {
		err := m.probe(trying, rec, p)
		if err == nil {
			return nil
		}
		// A try that the end of the time has cut off, which it may hear of before the context
		// tells, says less than one before it.
		if cut := trying.Err() != nil || errors.Is(err, context.DeadlineExceeded); !cut || errors.Is(last, noTry) {
			last = err
		}
		clock.Pause(trying, p.Interval)
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
		clock.Pause(ctx, retryWait)
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
	r, err := m.execs.Run(ctx, m.inside(m.keeper(rec.ID), nil), execs.Spec{Argv: argv}, nil, execs.Room{Max: probeOutput})
	if err != nil {
		return err
	}
	if r.Exit.Code != 0 {
		return fmt.Errorf("%.64q exits with %d: %.*q", argv[0], r.Exit.Code, probeTold, lastLine(r.Stderr, r.Stdout))
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
