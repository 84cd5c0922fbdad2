package fake

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/containerd/errdefs"

	"brig/internal/journal"
	"brig/nodeagent/engine"
)

// program is an exec. What it can run are the few of func run.
type program struct {
	engine.Program
	started bool
	ended   chan struct{}
	once    sync.Once
	status  int // read after ended
	at      time.Time
	// kill stops what runs.
	kill   context.CancelFunc
	ctx    context.Context //nolint:containedctx // the program's life
	resize func(columns, rows uint16)
}

func (p *program) end(status int) {
	p.once.Do(func() {
		p.status, p.at = status, time.Now()
		p.kill()
		close(p.ended)
	})
}

func (p *program) over() bool {
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}

// RunExec is both; what does not start is forgotten.
func (n *Node) RunExec(ctx context.Context, p engine.Program) error {
	if err := n.step("runexec", p.Sandbox); err != nil {
		return err
	}
	n.mu.Unlock()
	if err := n.AddExec(ctx, p); err != nil {
		return err
	}
	if err := n.StartExec(ctx, p); err != nil {
		return errors.Join(err, n.ForgetExec(ctx, p.Sandbox, p.ID))
	}
	return nil
}

// AddExec makes a program known.
func (n *Node) AddExec(_ context.Context, p engine.Program) error {
	if err := n.step("addexec", p.Sandbox); err != nil {
		return err
	}
	defer n.mu.Unlock()
	if n.tasks[p.Sandbox] == nil {
		return errdefs.ErrNotFound
	}
	key := p.Sandbox + "/" + p.ID
	if n.execs[key] != nil {
		return errdefs.ErrAlreadyExists
	}
	x := &program{Program: p, ended: make(chan struct{})}
	x.ctx, x.kill = context.WithCancel(context.Background())
	n.execs[key] = x
	return nil
}

// StartExec starts it.
func (n *Node) StartExec(_ context.Context, p engine.Program) error {
	if err := n.step("startexec", p.Sandbox); err != nil {
		return err
	}
	defer n.mu.Unlock()
	x := n.execs[p.Sandbox+"/"+p.ID]
	switch {
	case x == nil:
		return errdefs.ErrNotFound
	case x.started || x.over():
		return errdefs.ErrFailedPrecondition
	}
	x.started = true
	stdout, err := create(p.Stdout)
	if err != nil {
		return err
	}
	stderr, err := create(p.Stderr)
	if err != nil {
		return err
	}
	x.resize = func(columns, rows uint16) { fmt.Fprintf(stdout, "size %dx%d\n", columns, rows) }
	go func() {
		status := x.run(stdout, stderr)
		stdout.Close()
		stderr.Close()
		x.end(status)
	}()
	return nil
}

func create(uri string) (io.WriteCloser, error) {
	if uri == "" {
		return discard{io.Discard}, nil
	}
	spec, err := journal.ParseURI(uri)
	if err != nil {
		return nil, err
	}
	return journal.Create(spec)
}

type discard struct{ io.Writer }

func (discard) Close() error { return nil }

// run a program: echo TEXT, warn TEXT (to stderr), exit N, count N (so many bytes), cat,
// and sleep, which only a signal ends.
func (p *program) run(stdout, stderr io.Writer) int {
	arg := strings.Join(p.Argv[1:], " ")
	switch p.Argv[0] {
	case "echo":
		fmt.Fprintln(stdout, arg)
	case "warn":
		fmt.Fprintln(stderr, arg)
	case "exit":
		status, _ := strconv.Atoi(arg)
		return status
	case "count":
		size, _ := strconv.Atoi(arg)
		for i := 0; i < size; i += 1 << 10 {
			if _, err := stdout.Write([]byte(strings.Repeat(string(rune('a'+i>>10%26)), min(1<<10, size-i)))); err != nil {
				return 1
			}
		}
	case "cat":
		p.cat(stdout)
	case "sleep":
		<-p.ctx.Done()
	default:
		return 127
	}
	return 0
}

func (p *program) cat(stdout io.Writer) {
	path, err := journal.ParseInputURI(p.Stdin)
	if err != nil {
		return
	}
	in, err := journal.Open(path)
	if err != nil {
		return
	}
	defer in.Close()
	buf := make([]byte, journal.Chunk)
	for offset := int64(0); p.ctx.Err() == nil; {
		n, at, err := in.ReadAt(buf, offset)
		if errors.Is(err, io.EOF) {
			if complete, err := in.Complete(); complete || err != nil || in.Wait(p.ctx, offset) != nil {
				return
			}
			continue
		}
		if err != nil || at != offset {
			return
		}
		if _, err := stdout.Write(buf[:n]); err != nil {
			return
		}
		offset += int64(n)
		_ = in.Release(offset)
	}
}

func (n *Node) exec(sandbox, exec string) (*program, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if x := n.execs[sandbox+"/"+exec]; x != nil {
		return x, nil
	}
	return nil, errdefs.ErrNotFound
}

// ExecAdded tells that it was not started.
func (n *Node) ExecAdded(_ context.Context, sandbox, exec string) (bool, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	x := n.execs[sandbox+"/"+exec]
	if x == nil {
		return false, errdefs.ErrNotFound
	}
	return !x.started, nil
}

// WaitExec returns its status.
func (n *Node) WaitExec(ctx context.Context, sandbox, exec string) (int, time.Time, error) {
	x, err := n.exec(sandbox, exec)
	if err != nil {
		return 0, time.Time{}, err
	}
	select {
	case <-x.ended:
		return x.status, x.at, nil
	case <-ctx.Done():
		return 0, time.Time{}, context.Cause(ctx)
	}
}

// KillExec ends it, whatever the signal.
func (n *Node) KillExec(_ context.Context, sandbox, exec string, signal syscall.Signal) error {
	x, err := n.exec(sandbox, exec)
	if err != nil {
		return err
	}
	if x.over() {
		return errdefs.ErrNotFound
	}
	x.end(128 + int(signal))
	return nil
}

// ResizeExec has it say so.
func (n *Node) ResizeExec(_ context.Context, sandbox, exec string, columns, rows uint16) error {
	x, err := n.exec(sandbox, exec)
	if err != nil {
		return err
	}
	x.resize(columns, rows)
	return nil
}

// ForgetExec removes it if it does not run.
func (n *Node) ForgetExec(_ context.Context, sandbox, exec string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	key := sandbox + "/" + exec
	x := n.execs[key]
	switch {
	case x == nil:
		return errdefs.ErrNotFound
	case x.started && !x.over():
		return errdefs.ErrFailedPrecondition
	}
	x.end(255)
	delete(n.execs, key)
	return nil
}

// Execs counts those that are known.
func (n *Node) Execs() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.execs)
}

// endExecs with their sandbox. It is called under mu.
func (n *Node) endExecs(sandbox string) {
	for _, x := range n.execs {
		if x.Sandbox == sandbox {
			x.end(137)
		}
	}
}

// dropExecs of a sandbox. It is called under mu.
func (n *Node) dropExecs(sandbox string) {
	for key, x := range n.execs {
		if x.Sandbox == sandbox {
			delete(n.execs, key)
		}
	}
}
