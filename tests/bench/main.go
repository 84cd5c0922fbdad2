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
	isQuick := flags.Bool("quick", false, "3 minutes, to see that everything is measured; fails if something is not")
	rounds := flags.Int("n", 0, "rounds of every variant; 0: what each measure needs")
	bin := flags.String("bin", "bin", "folder of brig's binaries, with deps/ in it")
	only := flags.String("only", "", "the measures whose name holds this; empty: all")
	gvisor := flags.Bool("gvisor", true, "build gVisor's own shim, and measure it too")
	into := flags.String("out", "", "folder for results.json, table.txt, summary.tsv and plots, or trace.txt; empty: none")
	pool := flags.Int("pool", 0, "with -trace: create from a pool of so many")
	trace := flags.Bool("trace", false, "tell where the time of a create, an exec and a delete goes, and measure nothing")
	seed := flags.Uint64("seed", uint64(time.Now().UnixNano()), "of the order and the bootstrap")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *rounds < 0 {
		return fmt.Errorf("-n %d: at least 0", *rounds)
	}
	o := full.options()
	if *isQuick {
		o = quick.options()
	}
	o.rounds, o.only, o.seed = *rounds, *only, *seed
	if o.dir, err = os.MkdirTemp("", "brig-bench-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(o.dir)) }()
	if o.bin, err = filepath.Abs(*bin); err != nil {
		return err
	}
	if *trace {
		o.pool = *pool
		return traceInto(ctx, o, *into, out, progress)
	}
	if *gvisor {
		if o.peer, err = peer.Build(ctx, o.dir, progress); err != nil {
			return err
		}
	}
	fmt.Fprintf(progress, "bench: seed %d\n", o.seed)
	// What there is of an interrupted run is written, too.
	r, err := benchmark(ctx, o, progress)
	if r == nil {
		return err
	}
	if *into != "" {
		err = errors.Join(err, r.write(*into))
	}
	if *isQuick {
		err = errors.Join(err, r.failed())
	}
	return errors.Join(err, r.writeTable(out))
}

// benchmark measures what the options want and judges it. The report is nil only if
// nothing could be measured at all.
func benchmark(ctx context.Context, o options, progress io.Writer) (_ *report, err error) {
	about, err := describeMachine(o)
	if err != nil {
		return nil, err
	}
	s := &session{o: o, rng: rand.New(rand.NewPCG(o.seed, 0)), progress: progress}
	defer func() { err = errors.Join(err, s.close()) }()
	r := &report{Machine: about}
	err = s.run(ctx, r)
	r.judge(s.rng)
	return r, err
}
