// Package daemon puts brigd's parts together in the order in which they need one
// another, and takes them apart in the reverse order.
//
// A node that serves has everything that its answers need: a containerd that answers, a
// network in order, every earlier sandbox that runs found again. What is left to undo of
// others is undone behind the calls.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"brig/internal/config"
	"brig/internal/sandbox"
	"brig/internal/transit"
	"brig/nodeagent/ca"
	"brig/nodeagent/clock"
	"brig/nodeagent/containerd"
	"brig/nodeagent/denials"
	"brig/nodeagent/engine"
	"brig/nodeagent/events"
	"brig/nodeagent/gpus"
	"brig/nodeagent/metrics"
	"brig/nodeagent/names"
	"brig/nodeagent/network"
	"brig/nodeagent/pool"
	"brig/nodeagent/quota"
	"brig/nodeagent/resolver"
	"brig/nodeagent/sandboxes"
	"brig/nodeagent/store"
	"brig/nodeagent/tracing"
	"brig/nodeagent/verify"
)

const (
	readyTimeout   = 30 * time.Second
	reconcileEvery = 3 * time.Second
)

// Options of a run.
type Options struct {
	Config     *config.Config
	ConfigPath string // where Config was read from
	// Throwaway: with its brigd the node ends too, sandboxes and all.
	Throwaway bool
	// Ready is called once clients are served.
	Ready func() error
	Log   *slog.Logger
}

// Run serves until ctx ends, which is no error.
func Run(ctx context.Context, o Options) (err error) {
	d := &daemon{Options: o}
	defer func() { err = errors.Join(err, d.close()) }()
	if err := d.open(ctx); err != nil {
		if ctx.Err() != nil {
			return nil // it was told to end before it had begun
		}
		return err
	}
	return d.serve(ctx)
}

type daemon struct {
	Options
	store   *store.Store
	own     *containerd.Own
	engine  *engine.Engine
	manager *sandboxes.Manager
	network *network.Network
	ca      *ca.CA
	names   *names.Names
	events  *events.Hub
	denials *denials.Watcher
	metrics *metrics.Metrics
	tracing *tracing.Provider
	quota   *quota.Ledger
	waiting *pool.Pool
	gpus    *gpus.Node
	// stop ends the context of everything that lives as long as the daemon.
	stop    context.CancelFunc
	workers []<-chan struct{}
}

func (d *daemon) open(ctx context.Context) (err error) {
	cfg := d.Config
	if err := makeFolders(cfg); err != nil {
		return err
	}
	// First, because it is also what keeps a second brigd out.
	if d.store, err = store.Open(storePath(cfg)); err != nil {
		return err
	}
	d.store.Copy(func(id sandbox.ID) string { return filepath.Join(cfg.JournalDir(string(id)), recordCopy) }, d.Log)
	if err := d.openContainerd(ctx); err != nil {
		return err
	}
	if err := transit.Ensure(ctx, cfg); err != nil {
		return fmt.Errorf("bring the node's network in order: %w", err)
	}
	if d.ca, err = ca.Open(filepath.Join(cfg.StateDir, "ca"), hostsOf(cfg.Tunnels)...); err != nil {
		return err
	}
	return d.openManager(ctx)
}

func (d *daemon) openContainerd(ctx context.Context) (err error) {
	if d.Config.Containerd.Binary != "" {
		d.own = containerd.New(d.Config, d.ConfigPath, d.Log)
		if err := d.own.Ensure(ctx); err != nil {
			return err
		}
	}
	if d.engine, err = engine.Connect(d.Config); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	for {
		err := d.ready(ctx)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("containerd at %s does not answer: start it: %w", d.Config.Containerd.Address, err)
		}
		if d.own != nil { // what has answered may have been about to die
			if err := d.own.Ensure(ctx); err != nil {
				return err
			}
		}
		clock.Pause(ctx, 50*time.Millisecond)
	}
}

// ready asks containerd once.
func (d *daemon) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	return d.engine.Ready(ctx)
}

func (d *daemon) openManager(ctx context.Context) error {
	connected, err := network.Open(d.Config)
	if err != nil {
		return err
	}
	d.network = connected
	boot, err := clock.Boot()
	if err != nil {
		return err
	}
	living, stop := context.WithCancel(context.Background())
	d.stop = stop
	d.watch()
	tunnels, err := d.openTunnels(living)
	if err != nil {
		return err
	}
	d.openPool(connected, boot)
	d.manager, err = sandboxes.New(living, sandboxes.Parts{
		Config: d.Config, Store: d.store, Runtime: d.engine, Network: connected, Rules: connected, Tunnels: tunnels, Boot: boot,
		Events: d.events, Denials: d.denials, Metrics: d.metrics, Quota: d.quota, GPUs: checkedGPUs{d.gpus, d.Config}, Pool: d.takable(),
		Changed: d.names.Recheck, Held: connected.Owners, Log: d.Log,
	})
	if err != nil {
		return err
	}
	d.manager.Watch(d.engine.Events)
	if err := d.manager.Recover(); err != nil {
		return err
	}
	d.waiting.Restorer = d.manager.Restorer()
	d.waiting.Run(living)
	d.manager.Reconcile(reconcileEvery)
	d.manager.Meter()
	d.work(living)
	return nil
}

// watch makes what tells of sandboxes to whoever looks. Nothing is told before the
// manager is there.
func (d *daemon) watch() {
	d.events = events.NewHub()
	d.quota = quota.New(d.Config.Quotas)
	d.gpus = gpus.New(d.Config, d.Log)
	d.metrics = metrics.New(func() int { return d.manager.Running() })
	d.metrics.Kernel(transit.Rules(d.Config).Denials)
	d.metrics.Sandboxes(func() metrics.States { return d.manager.States() }, func() metrics.Tunnels { return d.manager.TunnelFigures() },
		func() metrics.GPUs { return d.manager.GPUStates() })
	d.store.Observe(d.metrics.StoreRead, d.metrics.StoreWrite)
	d.denials = denials.New(denials.Config{
		Sink:  func(denied denials.Denial) { d.manager.Denied(denied) },
		Count: d.metrics.Denied, Lost: d.metrics.Overrun,
		Log: d.Log.With("component", "denials"),
	})
	d.names = names.New(names.Options{
		Config: d.Config, Upstreams: resolver.Upstreams(d.Config.Network.DNS, "/etc/resolv.conf"), Denials: d.denials, Learn: d.denials.Learn, Log: d.Log,
	})
}

// work starts what runs beside the calls.
func (d *daemon) work(ctx context.Context) {
	d.goWork(func() { d.names.Keep(ctx) })
	d.goWork(func() { d.denials.Keep(ctx, network.Transit{Config: d.Config}) })
	d.goWork(func() { d.keepNetwork(ctx) })
	d.goWork(func() { d.gpus.Keep(ctx) })
	d.goWork(func() { d.keepIsolation(ctx, d.metrics) })
	if d.own != nil {
		d.goWork(func() { d.own.Keep(ctx) })
	}
}

func (d *daemon) goWork(f func()) {
	done := make(chan struct{})
	d.workers = append(d.workers, done)
	go func() { defer close(done); f() }()
}

func (d *daemon) pool(ctx context.Context) (string, error) {
	p, err := transit.Pool(ctx, d.Config)
	return p.String(), err
}

// verify compares what the node holds with the records, once it was brought in line.
func (d *daemon) verify(ctx context.Context) (verify.Result, error) {
	select {
	case <-d.manager.Settled():
	case <-ctx.Done():
		return verify.Result{}, context.Cause(ctx)
	}
	return verify.Run(ctx, verify.Parts{Config: d.Config, Records: d.store.All, Slots: d.store.Slots, Engine: d.engine, Network: d.network, Saving: d.manager.Saving, PID: os.Getpid()})
}

// makeFolders makes the state folder passable, for the CA's certificate; what is
// secret in it has a mode of its own.
func makeFolders(cfg *config.Config) error {
	for path, mode := range map[string]os.FileMode{
		cfg.StateDir:                        0o755,
		filepath.Dir(cfg.JournalDir("any")): 0o700,
		cfg.RunDir:                          0o755,
	} {
		if err := os.MkdirAll(path, mode); err != nil {
			return fmt.Errorf("make folders: %w", err)
		}
	}
	return nil
}
