package shim

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"brig/internal/config"
	"brig/shim/bundle"
	"brig/shim/rootfs"
	"brig/shim/runsc"
	"brig/shim/task"

	"github.com/containerd/containerd/v2/pkg/identifiers"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	containerd "github.com/containerd/containerd/v2/pkg/shim"
	"golang.org/x/sys/unix"
)

// stopTime bounds the delete verb: containerd kills it after 5 s.
const stopTime = 4500 * time.Millisecond

// Stop frees what a dead shim has left, and tells how the program ended: as on
// record, or killed, because now it is. Missing records are no error: the shim may
// have died at any point.
func (m manager) Stop(ctx context.Context, id string) (containerd.StopStatus, error) {
	ctx, cancel := context.WithTimeout(ctx, stopTime)
	defer cancel()
	namespace, err := namespaces.NamespaceRequired(ctx)
	if err != nil {
		return containerd.StopStatus{}, err
	}
	if err := identifiers.Validate(id); err != nil { // it is about to name folders to remove
		return containerd.StopStatus{}, err
	}
	b, err := m.bundleOf(id)
	if err != nil {
		return containerd.StopStatus{}, err
	}
	status := status(b)
	if isFreed(b) {
		return status, removeSocket(b) // containerd asks after every delete
	}
	if err := errors.Join(m.endServer(namespace, id), sweep(ctx, b, namespace, id), rootfs.Unmount(b.Rootfs()), removeSocket(b), m.release(ctx, namespace, id)); err != nil {
		// containerd removes the bundle when this verb succeeds, and asks again only
		// when it restarts: say what is left rather than fail.
		fmt.Fprintf(os.Stderr, "clean up after a dead shim: %v\n", err)
	}
	return status, nil
}

// bundleOf a dead shim may be gone already: what was started with its path is not.
func (m manager) bundleOf(id string) (bundle.Bundle, error) {
	if filepath.IsAbs(m.flags.bundle) {
		return bundle.Bundle(filepath.Clean(m.flags.bundle)), nil
	}
	cwd, err := os.Getwd()
	if err != nil {
		return "", err
	}
	return bundle.Bundle(filepath.Join(filepath.Dir(cwd), id)), nil
}

func status(b bundle.Bundle) containerd.StopStatus {
	var data []byte
	for _, of := range []bundle.Bundle{b, b.Slot()} {
		if exit, err := of.Exit(); err == nil {
			return containerd.StopStatus{Pid: exit.PID, ExitStatus: int(exit.Code), ExitedAt: exit.At}
		}
		if pid, err := os.ReadFile(of.PIDFile()); err == nil {
			data = pid
		}
	}
	pid, _ := strconv.Atoi(strings.TrimSpace(string(data))) // 0: there was no sandbox
	return containerd.StopStatus{Pid: pid, ExitStatus: 128 + int(unix.SIGKILL), ExitedAt: time.Now()}
}

// isFreed tells that the task ended and was deleted: what was made for it is gone, and
// so is the record of it.
func isFreed(b bundle.Bundle) (ended bool) {
	for _, of := range []bundle.Bundle{b, b.Slot()} {
		if _, err := of.Record(); !errors.Is(err, os.ErrNotExist) {
			return false
		}
		_, err := of.Exit()
		ended = ended || err == nil
	}
	return ended
}

// sweep needs the record for what the sandbox was made with. Where there is none, no
// sandbox was made with anything, unless somebody removed the record: the node's
// configuration finds its state then. The program of a slot goes with its holder.
func sweep(ctx context.Context, b bundle.Bundle, namespace, id string) error {
	var err error
	if held, none := b.Slot().Record(); none == nil {
		err = task.Sweep(ctx, b.Slot(), held)
	}
	return errors.Join(err, sweepProgram(ctx, b, namespace, id))
}

func sweepProgram(ctx context.Context, b bundle.Bundle, namespace, id string) error {
	record, err := b.Record()
	if err != nil {
		cfg, err := config.Load(config.Path(""))
		if err != nil {
			return err
		}
		record = bundle.Record{ID: id, Container: id, Runsc: runsc.For(&cfg, namespace, id)}
	}
	return task.Sweep(ctx, b, record)
}

func (m manager) release(ctx context.Context, namespace, id string) error {
	cfg, err := config.Load(config.Path(""))
	if err != nil {
		return err
	}
	return m.gate.Release(ctx, &cfg, namespace, id)
}

// removeSocket leaves that of a living shim, which serves the other containers of a
// pod: this verb is also for one of them that could not be made.
func removeSocket(b bundle.Bundle) error {
	address, err := containerd.ReadAddress(filepath.Join(string(b), addressFile))
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, containerd.ErrNoAddress) {
		return nil
	}
	if err != nil {
		return err
	}
	return removeDead(address)
}
