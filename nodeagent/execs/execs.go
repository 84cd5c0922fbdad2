// Package execs is the registry of the programs that are run beside a sandbox's own: it
// starts them, keeps what they write and how they end, and finds them again after a
// restart of brigd.
//
// Every exec has a folder in its sandbox's (folder.go), and making that folder is the
// claim to its id. The program is held by the sandbox's shim, which writes its output to
// journals there and takes its stdin from one. So brigd holds nothing that its death would
// lose: who comes again reads on from any offset, and a byte of stdin that was acknowledged
// is in a file. Nothing of this is synced to disk, since a machine that stops takes the
// sandbox with it.
//
// An exec that is kept stays, with its output and exit, until its sandbox is removed. One
// that is not ends with the last call that holds it and leaves nothing; if brigd ends
// first, it is held for another orphanWait, for its client to attach again.
//
// An exit is told when it is on record, and is on record before containerd forgets it.
// What an exit says of a program that its sandbox took along is in reason.go.
//
// A Manager is safe for concurrent use. Every exec that runs has one goroutine, which alone
// records its end. An Exec's lock may be taken under the Manager's, and nothing slow happens
// under either.
package execs

import (
	"context"
	"log/slog"
	"maps"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"brig/internal/sandbox"
	"brig/nodeagent/activity"
	"brig/nodeagent/clock"
	"brig/nodeagent/engine"
	"brig/nodeagent/quota"
	"brig/nodeagent/record"
)

// MaxKept is how many execs of one sandbox are kept. More are refused: to forget one would
// break what was promised of it, and a program could be run twice.
const MaxKept = 1000

// Runtime runs programs. An id is unique in a sandbox.
type Runtime interface {
	// RunExec starts a program, once. One that does not come to run is not known. An
	// ErrNotImplemented: it cannot in that sandbox, but in two steps.
	RunExec(ctx context.Context, p engine.Program) error
	// AddExec makes a program known, StartExec starts it, once.
	AddExec(ctx context.Context, p engine.Program) error
	StartExec(ctx context.Context, p engine.Program) error
	// ExecAdded tells that a program is known and does not run yet. An ErrNotFound: it is
	// not known.
	ExecAdded(ctx context.Context, sandbox, exec string) (bool, error)
	// WaitExec returns once a program has ended and its output is delivered.
	WaitExec(ctx context.Context, sandbox, exec string) (status int, at time.Time, err error)
	KillExec(ctx context.Context, sandbox, exec string, signal syscall.Signal) error
	ResizeExec(ctx context.Context, sandbox, exec string, columns, rows uint16) error
	// ForgetExec forgets a program that does not run.
	ForgetExec(ctx context.Context, sandbox, exec string) error
	// Kill signals the sandbox's own program; 0 asks whether it is there.
	Kill(ctx context.Context, sandbox string, signal syscall.Signal) error
}

// Sandbox is what the registry has to know of one.
type Sandbox struct {
	ID    sandbox.ID
	Owner uint32
	// Refusal is why no program can be started in it now; nil: it runs.
	Refusal error
	// Ended is closed once its end is on record.
	Ended <-chan struct{}
	// Fate is why it is about to be ended, and how it has ended, as far as is known.
	Fate func() (ending sandbox.Reason, exit *record.Exit)
	// Activity is told of what keeps it awake.
	Activity *activity.Tracker
}

// Parts are what a Manager works with.
type Parts struct {
	Runtime Runtime
	// Folder of a sandbox, in which the execs' lie.
	Folder func(id string) string
	// Spare is a folder in memory, for what is started while the disk is full.
	Spare string
	// JournalBytes bounds an output stream.
	JournalBytes int64
	Quota        *quota.Ledger
	Figures      Figures // nil: nobody looks
	Boot         string  // names the machine's present run
	Log          *slog.Logger
}

// Manager of a node's execs.
type Manager struct {
	Parts
	// ctx is the daemon's: programs outlive the calls that started them.
	ctx   context.Context
	wg    sync.WaitGroup
	began time.Duration // on the clock

	mu    sync.Mutex // guards what follows
	boxes map[sandbox.ID]*box
}

// box is what is in memory of a sandbox's execs.
type box struct {
	counting sync.Once // kept was counted

	live map[string]*Exec // those that run, or that a call holds; guarded by Manager.mu
	kept int              // on disk, or about to be; guarded by Manager.mu

	spent spent
}

// New returns a Manager whose goroutines end with ctx; programs go on.
func New(ctx context.Context, p Parts) *Manager {
	if p.Figures == nil {
		p.Figures = unseen{}
	}
	began, err := clock.Now()
	if err != nil {
		p.Log.Error("read the clock", "err", err) // whoever needs it reads it again, and fails
	}
	return &Manager{Parts: p, ctx: ctx, began: began, boxes: map[sandbox.ID]*box{}}
}

// Close waits for the goroutines after ctx has ended.
func (m *Manager) Close() { m.wg.Wait() }

// box of a sandbox, with the execs on disk counted.
func (m *Manager) box(id sandbox.ID) *box {
	m.mu.Lock()
	b := m.boxes[id]
	if b == nil {
		b = &box{live: map[string]*Exec{}}
		m.boxes[id] = b
	}
	m.mu.Unlock()
	b.counting.Do(func() {
		n := len(m.recorded(id))
		m.mu.Lock()
		defer m.mu.Unlock()
		b.kept += n
	})
	return b
}

// known is the box of a sandbox that was not forgotten; nil: it was.
func (m *Manager) known(id sandbox.ID) *box {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.boxes[id]
}

// forgetWait bounds how long a removal waits for the last words of execs.
const forgetWait = 5 * time.Second

// Forget drops what is in memory of a sandbox that has ended, files in memory too, before
// its folder is removed, and sees to it that nothing is written there any more.
func (m *Manager) Forget(id sandbox.ID) {
	m.mu.Lock()
	b := m.boxes[id]
	delete(m.boxes, id)
	var live []*Exec
	if b != nil {
		live = slices.Collect(maps.Values(b.live))
	}
	m.mu.Unlock()
	if b != nil {
		b.spent.close()
	}
	ctx, cancel := context.WithTimeout(m.ctx, forgetWait)
	defer cancel()
	for _, x := range live {
		select {
		case <-x.done:
		case <-ctx.Done():
		}
	}
	if err := os.RemoveAll(m.spareDir(id)); err != nil {
		m.Log.Error("remove the execs of a sandbox", "sandbox", id, "err", err)
	}
}
