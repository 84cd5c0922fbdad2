package task

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"brig/shim/runsc"
	"brig/shim/stdio"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// State of a process. The zero value is Created.
type State int

// The states; the table moves holds the legal moves.
const (
	Created State = iota
	Running
	Paused // the program alone
	Stopped
)

// String names the state.
func (s State) String() string { return [...]string{"created", "running", "paused", "stopped"}[s] }

var moves = map[State][]State{
	Created: {Running, Stopped},
	Running: {Paused, Stopped},
	Paused:  {Running, Stopped},
}

// process is the program of a task, or an exec.
type process struct {
	execID  string // empty: the program
	streams stdio.Config
	args    runsc.ExecArgs // of an exec
	line    *runsc.Line    // that has started an exec, for who waits for its end
	exited  chan struct{}  // closed when Exited was told, or a start has failed

	mu      sync.Mutex
	state   State
	claimed bool // an exec's start has begun; there is one start
	pid     int32
	io      *stdio.IO
	size    specs.Box // of the terminal, as it was asked for; zero: it was not
	exit    Exit
}

func newProcess(execID string, streams stdio.Config) *process {
	return &process{execID: execID, streams: streams, exited: make(chan struct{})}
}

// move changes the state, or says why it may not.
func (p *process) move(to State) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.moveLocked(to)
}

func (p *process) moveLocked(to State) error {
	if !slices.Contains(moves[p.state], to) {
		return fmt.Errorf("a process cannot go from %s to %s: %w", p.state, to, errdefs.ErrFailedPrecondition)
	}
	p.state = to
	return nil
}

// stop records the end. The caller closes exited once the end is told.
func (p *process) stop(exit Exit) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.moveLocked(Stopped) == nil {
		p.exit = exit
	}
}

// claim is the right to start an exec, given once.
func (p *process) claim() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state != Created || p.claimed {
		return fmt.Errorf("exec %s was started before: %w", p.execID, errdefs.ErrFailedPrecondition)
	}
	p.claimed = true
	return nil
}

// abandon ends an exec that nobody has begun to start, for whoever waits for it. It tells
// whether there was one.
func (p *process) abandon() bool {
	if p.claim() != nil {
		return false
	}
	p.stop(Exit{Code: failedStart, At: time.Now()})
	close(p.exited)
	return true
}

// started records a running exec.
func (p *process) started(pid int32, io *stdio.IO) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pid, p.io, p.state = pid, io, Running
}

// resize sets the terminal's size; that of an exec which was not started is kept for
// its start.
func (p *process) resize(width, height uint16) error {
	if !p.streams.Terminal {
		return stdio.ErrNoTerminal
	}
	p.mu.Lock()
	p.size = specs.Box{Width: uint(width), Height: uint(height)}
	io := p.io
	p.mu.Unlock()
	if io == nil {
		return nil
	}
	return p.fit(io)
}

// fit gives the terminal the size that it was to have by now.
func (p *process) fit(io *stdio.IO) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.size == (specs.Box{}) {
		return nil
	}
	return io.Resize(uint16(p.size.Width), uint16(p.size.Height))
}

// sizeOf the terminal in the process's spec.
func sizeOf(spec *specs.Process) specs.Box {
	if !spec.Terminal || spec.ConsoleSize == nil {
		return specs.Box{}
	}
	return *spec.ConsoleSize
}

// wait blocks until the end was told.
func (p *process) wait(ctx context.Context) (Exit, error) {
	select {
	case <-p.exited:
		_, exit := p.look()
		return exit, nil
	case <-ctx.Done():
		return Exit{}, context.Cause(ctx)
	}
}

func (p *process) look() (State, Exit) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.state, p.exit
}

func (p *process) sandboxPID() int32 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.pid
}

// stdio is nil before the start of an exec.
func (p *process) stdio() *stdio.IO {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.io
}
