// Command brig-cni is the CNI plugin of a brig node; see package cni.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"

	"github.com/containernetworking/cni/pkg/skel"
	"golang.org/x/sys/unix"

	"brig/cni"
	"brig/internal/config"
	"brig/internal/version"
)

// deadline of one call: the lock is held for milliseconds, also when many wait.
const deadline = 60 * time.Second

// reap is the argument under which the program starts itself once more, with the
// configuration's path behind it and the reaper's lock as lockFD.
const (
	reap   = "reap"
	lockFD = 3
)

func main() {
	if err := run(context.Background(), os.Args[1:]); err != nil {
		os.Exit(1)
	}
}

// run writes the error as CNI wants it, as JSON on standard output.
func run(ctx context.Context, args []string) error {
	ctx, stop := signal.NotifyContext(ctx, unix.SIGTERM, unix.SIGINT)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, deadline)
	defer cancel()
	if len(args) == 2 && args[0] == reap {
		return runReaper(ctx, args[1])
	}
	if len(args) > 0 {
		fmt.Fprintln(os.Stderr, "brig-cni is run by CNI, which passes everything in the environment")
		return errors.New("arguments")
	}
	if e := skel.PluginMainFuncsWithError(cni.Commands(ctx, os.Stdout, reaper), cni.Versions, "brig-cni "+version.Version); e != nil {
		return errors.Join(e, e.Print())
	}
	return nil
}

// reaper starts this program once more, in a session of its own and with nobody's
// standard streams, so that nobody waits for it.
func reaper(configPath string) cni.Starter {
	return func(lock *os.File) error {
		cmd := exec.Command("/proc/self/exe", reap, configPath)
		cmd.Args[0], cmd.Dir, cmd.Env = "brig-cni", "/", []string{}
		cmd.ExtraFiles = []*os.File{lock}
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		return cmd.Start()
	}
}

func runReaper(ctx context.Context, configPath string) error {
	cfg, err := config.Load(configPath)
	if err != nil {
		return err
	}
	return cni.Reap(ctx, &cfg, os.NewFile(lockFD, "lock"))
}
