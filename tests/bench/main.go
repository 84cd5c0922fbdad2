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
	"syscall"
	"time"
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

func run(ctx context.Context, args []string, out, progress io.Writer) error {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	rounds := flags.Int("n", 50, "rounds of every variant")
	bin := flags.String("bin", "bin", "folder of brig's binaries, with deps/ in it")
	jsonPath := flags.String("json", "", "also write everything to this file")
	seed := flags.Uint64("seed", uint64(time.Now().UnixNano()), "of the order and the bootstrap")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *rounds < 1 {
		return fmt.Errorf("-n %d: at least 1", *rounds)
	}
	dir, err := os.MkdirTemp("", "brig-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	absolute, err := filepath.Abs(*bin)
	if err != nil {
		return err
	}
	fmt.Fprintf(progress, "bench: seed %d\n", *seed)
	r, err := benchmark(ctx, absolute, dir, *rounds, rand.New(rand.NewPCG(*seed, 0)), progress)
	if err != nil {
		return err
	}
	if *jsonPath != "" {
		if err := writeFile(*jsonPath, r.writeJSON); err != nil {
			return err
		}
	}
	return r.writeTable(out)
}

// benchmark runs every measure on a throwaway node under dir.
func benchmark(ctx context.Context, bin, dir string, rounds int, rng *rand.Rand, progress io.Writer) (_ *report, err error) {
	about, err := describeMachine(bin)
	if err != nil {
		return nil, err
	}
	node, err := startNode(ctx, bin, dir)
	defer func() { err = errors.Join(err, node.close()) }()
	if err != nil {
		return nil, err
	}
	r := &report{Machine: about}
	for _, measured := range []func(context.Context, *testNode, int, *rand.Rand, io.Writer) (string, []series, error){
		measureCreate, measureExec,
	} {
		name, all, err := measured(ctx, node, rounds, rng, progress)
		if err != nil {
			return nil, err
		}
		r.add(rng, name, all)
	}
	return r, nil
}

func measureCreate(ctx context.Context, n *testNode, rounds int, rng *rand.Rand, progress io.Writer) (string, []series, error) {
	brig, runc := n.runtimes()
	m := measure{name: "create → first output", variants: []variant{
		{name: "runc shim", once: n.createToOutput(runc)},
		{name: "brig shim", ours: true, once: n.createToOutput(brig)},
		{name: "brigd, network and policy", ours: true, once: n.agentCreateToOutput},
	}}
	all, err := m.run(ctx, rng, rounds, progress)
	return m.name, all, err
}

func measureExec(ctx context.Context, n *testNode, rounds int, rng *rand.Rand, progress io.Writer) (_ string, _ []series, err error) {
	m := measure{name: "exec round trip"}
	brig, runc := n.runtimes()
	for _, peer := range []struct {
		name string
		shimRuntime
		ours bool
	}{{"runc shim", runc, false}, {"brig shim", brig, true}} {
		task, remove, err := n.idle(ctx, peer.shimRuntime)
		if err != nil {
			return m.name, nil, fmt.Errorf("%s: %w", peer.name, err)
		}
		defer func() { err = errors.Join(err, remove()) }()
		m.variants = append(m.variants, variant{name: peer.name, ours: peer.ours, once: n.execRoundTrip(task)})
	}
	id, err := n.agentIdle(ctx)
	if err != nil {
		return m.name, nil, err
	}
	defer func() { err = errors.Join(err, n.removeSandbox(ctx, id)) }()
	m.variants = append(m.variants, variant{name: "brigd", ours: true, once: n.agentExec(id)})
	all, err := m.run(ctx, rng, rounds, progress)
	return m.name, all, err
}

func writeFile(path string, write func(io.Writer) error) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	return errors.Join(write(f), f.Close())
}
