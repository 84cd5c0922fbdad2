// Command brig-cni is the CNI plugin of a brig node; see package cni.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"time"

	"github.com/containernetworking/cni/pkg/skel"
	"golang.org/x/sys/unix"

	"brig/cni"
	"brig/internal/version"
)

// deadline of one call: the lock is held for milliseconds, also when many wait.
const deadline = 60 * time.Second

func main() {
	if err := run(context.Background(), os.Args[1:]); err != nil {
		os.Exit(1)
	}
}

// run writes the error as CNI wants it, as JSON on standard output.
func run(ctx context.Context, args []string) error {
	if len(args) > 0 {
		fmt.Fprintln(os.Stderr, "brig-cni is run by CNI, which passes everything in the environment")
		return errors.New("arguments")
	}
	ctx, stop := signal.NotifyContext(ctx, unix.SIGTERM, unix.SIGINT)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, deadline)
	defer cancel()
	if e := skel.PluginMainFuncsWithError(cni.Commands(ctx, os.Stdout), cni.Versions, "brig-cni "+version.Version); e != nil {
		return errors.Join(e, e.Print())
	}
	return nil
}
