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

// choices are what the command line says beside what to measure.
type choices struct {
	options
	gvisor, trace bool
	out           string
}

func parse(args []string) (c choices, err error) {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	isQuick := flags.Bool("quick", false, "3 minutes, to see that everything is measured; fails if something is not")
	rounds := flags.Int("n", 0, "rounds of every variant; 0: what each measure needs")
	bin := flags.String("bin", "bin", "folder of brig's binaries, with deps/ in it")
	only := flags.String("only", "", "the measures whose name holds this; empty: all")
	flags.BoolVar(&c.gvisor, "gvisor", true, "build gVisor's own shim, and measure it too")
	flags.StringVar(&c.out, "out", "", "folder for results.json, table.txt, summary.tsv and plots, or trace.txt; empty: none")
	flags.BoolVar(&c.trace, "trace", false, "tell where the time of a create, an exec and a delete goes, and measure nothing")
	pool := flags.Int("pool", 0, "with -trace: create from a pool of so many")
	seed := flags.Uint64("seed", uint64(time.Now().UnixNano()), "of the order and the bootstrap")
	if err := flags.Parse(args); err != nil {
		return c, err
	}
	if *rounds < 0 || flags.NArg() > 0 {
		return c, fmt.Errorf("-n %d, %q: want at least 0, and no arguments", *rounds, flags.Args())
	}
	c.options = full.options()
	if *isQuick {
		c.options = quick.options()
	}
	if c.trace {
		c.pool = *pool
	}
	c.rounds, c.only, c.seed = *rounds, *only, *seed
	c.bin, err = filepath.Abs(*bin)
	return c, err
}

func run(ctx context.Context, args []string, out, progress io.Writer) error {
	c, err := parse(args)
	if err != nil {
		return err
	}
	if c.dir, err = os.MkdirTemp("", "brig-bench-"); err != nil {
		return err
	}
	do := c.measure
	if c.trace {
		do = c.tell
	}
	return errors.Join(do(ctx, out, progress), os.RemoveAll(c.dir))
}

// measure everything. What there is of an interrupted run is written, too.
func (c choices) measure(ctx context.Context, out, progress io.Writer) (err error) {
	if c.gvisor {
		if c.peer, err = peer.Build(ctx, c.dir, progress); err != nil {
			return err
		}
	}
	fmt.Fprintf(progress, "bench: seed %d\n", c.seed)
	r, err := benchmark(ctx, c.options, progress)
	if r == nil {
		return err
	}
	if c.out != "" {
		err = errors.Join(err, r.write(c.out))
	}
	if c.mode == quick {
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
