// Command conformance judges a shim by containerd's own client suite: `make
// conformance` calls it; it needs root, the Go tool chain and what `make build deps`
// leaves in bin/, and no internet.
//
// The suite, package integration/client of the containerd that tools/containerd
// pins, is built under .cache/ from a copy of that module. Every test of it that
// reaches a shim runs in a cell of its own (see cell.go) with a containerd of its
// own, and must pass, but for those in exceptions, which must fail. Tests that do
// not reach a shim are counted, not run.
//
//	go run ./tests/conformance -run 'Pids|Metrics'
//	go run ./tests/conformance -runtime io.containerd.runc.v2    # the same tests, to compare
//	go run ./tests/conformance -all                              # which tests reach the shim?
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"syscall"
	"time"

	"brig/internal/sandbox"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == cellVerb {
		os.Exit(cellMain(context.Background(), os.Args[2:]))
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "conformance:", err)
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) (err error) {
	flags := flag.NewFlagSet("conformance", flag.ContinueOnError)
	runtime := flags.String("runtime", sandbox.Runtime, "`name` of the runtime to judge")
	pattern := flags.String("run", "", "only tests that this `expression` matches")
	all := flags.Bool("all", false, "run every test of the suite and tell which reach the shim (*); judge none")
	jobs := flags.Int("j", 2, "tests at once")
	patience := flags.Duration("timeout", 3*time.Minute, "for each test")
	binFlag := flags.String("bin", "bin", "folder of brig's binaries, with deps/ in it")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if os.Geteuid() != 0 {
		return errors.New("needs root: sudo make conformance")
	}
	only, errPattern := regexp.Compile(*pattern)
	bin, errBin := filepath.Abs(*binFlag)
	if err := cmp.Or(errPattern, errBin); err != nil {
		return err
	}
	s, err := buildSuite(ctx)
	if err != nil {
		return err
	}
	names, err := s.list(ctx)
	if err != nil {
		return err
	}
	chosen := names
	if !*all {
		if err := known(names); err != nil {
			return err
		}
		chosen = reaching(*runtime)
	}
	r := runner{suite: s, runtime: *runtime, bin: bin, patience: *patience, logs: filepath.Join(s.dir, "logs", *runtime)}
	if *runtime == sandbox.Runtime {
		r.exceptions = exceptions
	}
	defer func() { err = errors.Join(err, removeCgroups()) }()
	results, err := r.runAll(ctx, matching(chosen, only), *jobs, out)
	if err != nil || *all {
		return err
	}
	fmt.Fprintf(out, "\ncontainerd %s, integration/client, %s: %d tests; %d of the suite's %d reach no shim, or need what is not here\n",
		s.version, *runtime, len(results), len(names)-len(chosen), len(names))
	return verdict(results, r.exceptions, out)
}
