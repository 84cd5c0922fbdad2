package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"brig/tests/peer"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out, progress io.Writer) (err error) {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	o := options{crowd: 10, idle: 100, restarts: 10, few: 10, many: 1000, full: 10_000, ranges: 100_000, batch: 200, bytes: 256 << 20}
	flags.IntVar(&o.rounds, "n", 50, "rounds of every variant")
	flags.StringVar(&o.bin, "bin", "bin", "folder of brig's binaries, with deps/ in it")
	flags.StringVar(&o.only, "only", "", "the measures whose name holds this; empty: all")
	flags.IntVar(&o.idle, "idle", o.idle, "sandboxes with which brigd is started again")
	flags.IntVar(&o.many, "many", o.many, "attachments of a node, where its ADD is measured beside upstream's")
	flags.IntVar(&o.full, "full", o.full, "attachments of a full node, where the network is measured")
	gvisor := flags.Bool("gvisor", true, "build gVisor's own shim, and measure it too")
	jsonPath := flags.String("json", "", "also write everything to this file")
	trace := flags.Bool("trace", false, "tell where the time of a create, an exec and a delete goes, and measure nothing")
	seed := flags.Uint64("seed", uint64(time.Now().UnixNano()), "of the order and the bootstrap")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if o.rounds < 1 {
		return fmt.Errorf("-n %d: at least 1", o.rounds)
	}
	if o.dir, err = os.MkdirTemp("", "brig-bench-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(o.dir)) }()
	if o.bin, err = filepath.Abs(o.bin); err != nil {
		return err
	}
	if *trace {
		return runTrace(ctx, o, out, progress)
	}
	if *gvisor && slices.ContainsFunc(measures, func(m nodeMeasure) bool { return o.wants(m.name) }) {
		if o.peer, err = peer.Build(ctx, o.dir, progress); err != nil {
			return err
		}
	}
	fmt.Fprintf(progress, "bench: seed %d\n", *seed)
	r, err := benchmark(ctx, o, rand.New(rand.NewPCG(*seed, 0)), progress)
	if r == nil {
		return err
	}
	// What there is of an interrupted run is printed, too.
	if *jsonPath != "" {
		err = errors.Join(err, writeFile(*jsonPath, r.writeJSON))
	}
	return errors.Join(err, r.writeTable(out))
}

// options of a run.
type options struct {
	bin    string // brig's binaries, with deps/ in it
	dir    string // where the throwaway node keeps everything
	peer   string // gVisor's own shim; empty: without it
	rounds int
	crowd  int // how many idle sandboxes at once, where memory is measured
	// idle sandboxes, with which brigd is started again so many times.
	idle, restarts int
	// few, many and full are how many attachments a node has whose network is measured,
	// ranges how many its longest list has, batch the round trips of a sample, and
	// bytes what a TCP connection carries.
	few, many, full, ranges, batch, bytes int
	only                                  string // part of a measure's name
}

func (o options) wants(name string) bool { return strings.Contains(name, o.only) }

// nodeMeasure is a measure that needs a whole node. One may yield several series of a
// variant.
type nodeMeasure struct {
	name string
	run  func(context.Context, *testNode, options, *rand.Rand, io.Writer) ([]series, error)
}

// measures in the order of the report; those of the network come after them.
var measures = []nodeMeasure{
	{"create → first output", measureCreate},
	{"exec round trip", measureExec},
	{"exec: API overhead", measureOverhead},
	{"exec: stdout throughput", measureOutput},
	{"idle sandbox", measureIdle},
	{"restart", measureRestart},
	{"tunnel: throughput", measureTunnelThroughput},
	{"tunnel: round trip, and what it adds", measureTunnelRoundTrip},
}

// benchmark runs the measures whose names hold o.only: those of a node on a throwaway
// one, those of its network in throwaway namespaces.
func benchmark(ctx context.Context, o options, rng *rand.Rand, progress io.Writer) (*report, error) {
	about, err := describeMachine(o.bin)
	if err != nil {
		return nil, err
	}
	r := &report{Machine: about}
	if err := r.measureNode(ctx, o, rng, progress); err != nil {
		return r, err
	}
	return r, r.measureNetwork(ctx, o, rng, progress)
}

func (r *report) measureNode(ctx context.Context, o options, rng *rand.Rand, progress io.Writer) (err error) {
	var node *testNode
	for _, m := range measures {
		if !o.wants(m.name) {
			continue
		}
		if node == nil {
			node, err = startNode(ctx, o, nodeSpec{name: "node"})
			defer func() { err = errors.Join(err, node.close()) }()
			if err != nil {
				return err
			}
		}
		all, err := m.run(ctx, node, o, rng, progress)
		if err != nil {
			return fmt.Errorf("%s: %w", m.name, err)
		}
		r.add(rng, all)
	}
	return nil
}

func (r *report) measureNetwork(ctx context.Context, o options, rng *rand.Rand, progress io.Writer) (err error) {
	n := &networks{o: o, progress: progress}
	defer func() { err = errors.Join(err, n.close()) }()
	for _, m := range netMeasures {
		if !o.wants(m.name) {
			continue
		}
		all, err := m.run(ctx, n, o, rng, progress)
		if err != nil {
			return fmt.Errorf("%s: %w", m.name, err)
		}
		r.add(rng, all)
	}
	return nil
}

func measureCreate(ctx context.Context, n *testNode, o options, rng *rand.Rand, progress io.Writer) ([]series, error) {
	runtimes, err := n.runtimes()
	if err != nil {
		return nil, err
	}
	m := measure{name: "create → first output"}
	for _, r := range runtimes {
		m.variants = append(m.variants, variant{name: r.name, ours: r.ours, once: n.createToOutput(r)})
	}
	m.variants = append(m.variants, variant{name: "brigd, network and policy", ours: true, once: n.agentCreateToOutput})
	return m.run(ctx, rng, o.rounds, progress)
}

func measureExec(ctx context.Context, n *testNode, o options, rng *rand.Rand, progress io.Writer) (_ []series, err error) {
	runtimes, err := n.runtimes()
	if err != nil {
		return nil, err
	}
	m := measure{name: "exec round trip"}
	for _, r := range runtimes {
		task, remove, err := n.idle(ctx, r)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", r.name, err)
		}
		defer func() { err = errors.Join(err, remove()) }()
		m.variants = append(m.variants, variant{name: r.name, ours: r.ours, once: n.execRoundTrip(benchNamespace, task)})
	}
	id, err := n.agentIdle(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, n.removeSandbox(ctx, id)) }()
	m.variants = append(m.variants, variant{name: "brigd", ours: true, once: n.agentExec(id)})
	return m.run(ctx, rng, o.rounds, progress)
}

func writeFile(path string, write func(io.Writer) error) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	return errors.Join(write(f), f.Close())
}
