package gpus

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/containerd/errdefs"

	"brig/internal/config"
)

const (
	// glanceEvery is how late a change is noticed that the kernel does not tell of: a
	// library that was replaced, a kernel that tells nobody in a container.
	glanceEvery = 10 * time.Second
	// againAfter is when an answer that was none is asked for again.
	againAfter = time.Minute
	// settleTime lets the many events of one change pass.
	settleTime = 500 * time.Millisecond
)

// Node is what is known of the node's GPUs. Make it with New, and have Keep keep it.
type Node struct {
	cfg  *config.Config
	ask  generator
	log  *slog.Logger
	once sync.Once
	// looked is closed when there is a first answer.
	looked chan struct{}

	mu  sync.Mutex // guards what follows
	has Inventory
}

// New returns a node that has not been looked at.
func New(cfg *config.Config, log *slog.Logger) *Node {
	return &Node{
		cfg: cfg, ask: generator{path: cfg.GPU.Generator, driverRoot: cfg.GPU.DriverRoot}, log: log.With("component", "gpus"),
		looked: make(chan struct{}), has: none("brigd is still looking for GPUs: ask again"),
	}
}

// Known is what is known now.
func (n *Node) Known() Inventory {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.has
}

// Inventory waits for the first look, which begins with brigd.
func (n *Node) Inventory(ctx context.Context) (Inventory, error) {
	select {
	case <-n.looked:
		return n.Known(), nil
	case <-ctx.Done():
		return Inventory{}, errdefs.ErrUnavailable.WithMessage(n.Known().Unavailable)
	}
}

// Keep looks, and looks again whenever something may have changed, until ctx ends. What
// the kernel tells of devices and modules makes it quick; a glance at what the driver
// leaves in the filesystem (signature) decides, since asking the driver itself wakes GPUs
// that sleep.
func (n *Node) Keep(ctx context.Context) { n.keep(ctx, n.listen(ctx)) }

func (n *Node) keep(ctx context.Context, told <-chan struct{}) {
	var seen string
	var asked time.Time
	failed := true
	for ctx.Err() == nil {
		now := n.signature()
		if now != seen || failed && time.Since(asked) >= againAfter {
			failed = !n.look(ctx)
			seen, asked = now, time.Now()
		}
		n.await(ctx, told)
	}
}

// await returns when it is time for a glance.
func (n *Node) await(ctx context.Context, told <-chan struct{}) {
	timer := time.NewTimer(glanceEvery)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	case <-told:
		settled := time.NewTimer(settleTime)
		defer settled.Stop()
		select {
		case <-ctx.Done():
		case <-settled.C:
		}
	}
}

// look asks the driver, and has what it says hold. It is false if there was no answer.
func (n *Node) look(ctx context.Context) bool {
	found, err := n.answer(ctx)
	if ctx.Err() != nil {
		return false
	}
	if err != nil {
		found = none("%v", err)
	}
	answered := err == nil
	if err := n.keepSpecification(found.CDI); err != nil {
		answered = false
		n.log.Error("keep the CDI specification", "err", err)
		// What the shim reads is not what is handed out.
		found = none("the CDI specification of the GPUs cannot be kept: %v", err)
	}
	n.mu.Lock()
	was := n.has
	n.has = found
	n.mu.Unlock()
	if !same(was, found) {
		n.log.Info("GPUs of this node", "gpus", len(found.GPUs), "driver", found.Driver, "unavailable", found.Unavailable)
	}
	n.once.Do(func() { close(n.looked) })
	return answered
}

// answer is an error if whoever was asked has none.
func (n *Node) answer(ctx context.Context) (Inventory, error) {
	switch {
	case n.ask.path == "":
		return none("brigd hands out none (gpu.generator is empty)"), nil
	case n.ask.missing():
		return none("there is no %s (gpu.generator): install brig anew", n.ask.path), nil
	}
	return n.ask.ask(ctx)
}

func same(a, b Inventory) bool {
	return a.Unavailable == b.Unavailable && a.Driver == b.Driver && slices.Equal(a.GPUs, b.GPUs) && bytes.Equal(a.CDI, b.CDI)
}

// Minors are the numbers of the device nodes of GPUs.
func (i Inventory) Minors(uuids []string) ([]int, error) {
	var minors []int
	for _, uuid := range uuids {
		at := slices.IndexFunc(i.GPUs, func(g GPU) bool { return g.UUID == uuid })
		if at < 0 {
			return nil, errdefs.ErrNotFound.WithMessage(fmt.Sprintf("GPU %s has gone", uuid))
		}
		minors = append(minors, i.GPUs[at].Minor)
	}
	return minors, nil
}
