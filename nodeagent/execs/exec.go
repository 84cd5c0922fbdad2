package execs

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"sync"
	"syscall"
	"time"

	"github.com/containerd/errdefs"

	"brig/internal/journal"
	"brig/nodeagent/record"
)

// Exec is a program that runs in a sandbox, or ran.
type Exec struct {
	m      *Manager
	sb     Sandbox
	id     string
	folder folder
	max    int64 // of an output journal, if it is started now
	note   note  // read after settled

	counted bool // among those that are kept; guarded by Manager.mu

	// settled is closed when it is known to run, to have run, or not to.
	settled chan struct{}
	fault   error // why it does not; read after settled
	// ended is closed when its exit is known.
	ended chan struct{}
	exit  record.Exit // read after ended
	// done is closed when nothing is written to its folder any more, unless it is removed.
	done chan struct{}

	// writing holds one token while stdin is written to.
	writing chan struct{}
	input   *journal.Input // of whoever writes

	mu      sync.Mutex  // guards what follows
	holders int         // calls that an exec that is not kept lives for
	killed  bool        // a client sent SIGKILL
	timeout *time.Timer // nil: no deadline
	awake   func()      // tells that it runs no more
	running bool        // the figures were told so
}

func (m *Manager) newExec(sb Sandbox, id string) *Exec {
	return &Exec{
		m: m, sb: sb, id: id,
		settled: make(chan struct{}), ended: make(chan struct{}), done: make(chan struct{}), writing: make(chan struct{}, 1),
		awake: func() {},
	}
}

// ID of the exec in its sandbox.
func (x *Exec) ID() string { return x.id }

// HasEnded tells that the exit is known. All output can be read then.
func (x *Exec) HasEnded() bool { return isClosed(x.ended) }

// inRuntime is the exec's name for the runtime, which takes fewer names than clients may
// give.
func (x *Exec) inRuntime() string {
	sum := sha256.Sum256([]byte(x.id))
	return "x" + hex.EncodeToString(sum[:16])
}

// Wait returns how the program ended, once it has.
func (x *Exec) Wait(ctx context.Context) (record.Exit, error) {
	select {
	case <-x.ended:
		return x.exit, nil
	case <-ctx.Done():
		return record.Exit{}, context.Cause(ctx)
	case <-x.m.ctx.Done():
		return record.Exit{}, ErrEnding
	}
}

// ErrEnding is why the calls of a brigd that ends are cancelled.
var ErrEnding = errdefs.ErrUnavailable.WithMessage("brigd is ending: ask again")

// Signal sends a signal, 1 to 64. To a program that has ended it does nothing.
func (x *Exec) Signal(ctx context.Context, signal syscall.Signal) error {
	if signal < 1 || signal > 64 {
		return invalid("invalid signal %d: want 1 to 64", signal)
	}
	if isClosed(x.ended) {
		return nil
	}
	if signal == syscall.SIGKILL {
		x.mu.Lock()
		x.killed = true
		x.mu.Unlock()
	}
	return x.unlessEnded(x.m.Runtime.KillExec(ctx, string(x.sb.ID), x.inRuntime(), signal))
}

// Resize tells the program the size of its terminal. To one that has ended it does nothing.
func (x *Exec) Resize(ctx context.Context, size record.Size) error {
	if !x.note.TTY {
		return errdefs.ErrFailedPrecondition.WithMessage(fmt.Sprintf("exec %s has no terminal to resize: start it with a tty", x.id))
	}
	if isClosed(x.ended) {
		return nil
	}
	return x.unlessEnded(x.m.Runtime.ResizeExec(ctx, string(x.sb.ID), x.inRuntime(), size.Columns, size.Rows))
}

// unlessEnded drops the errors of a program that has ended meanwhile.
func (x *Exec) unlessEnded(err error) error {
	if errdefs.IsNotFound(err) || isClosed(x.ended) {
		return nil
	}
	return err
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
