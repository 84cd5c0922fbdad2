package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"brig/nodeagent/gpus"
)

// Teardown removes an installed node whole: what lives on it, its network, its run
// directory and its state. While anything lives it refuses, unless force is set. It
// opens the node first, like a brigd that serves, so that what a crash left half-made
// is undone by the same code; a node that cannot be opened is cleared by force alone.
func Teardown(ctx context.Context, o Options, force bool) error {
	o.Throwaway = false
	d := &daemon{Options: o}
	err := d.open(ctx)
	if err == nil {
		err = d.waiting.Drain(ctx) // they are nobody's
	}
	if err == nil && !force {
		err = d.idle(ctx)
	}
	if d.store == nil {
		return fmt.Errorf("open the node, whose brigd must not run: %w", errors.Join(err, d.close()))
	}
	if err != nil && !force {
		return errors.Join(err, d.close())
	}
	if err != nil {
		d.Log.Warn("the node cannot be opened and is cleared as it is", "err", err)
	}
	d.Throwaway = true
	return errors.Join(d.close(), removeState(o.Config.StateDir), gpus.Withdraw(o.Config))
}

// idle is an error that names what lives.
func (d *daemon) idle(ctx context.Context) error {
	living, err := d.engine.Living(ctx, d.owned())
	if err != nil {
		return fmt.Errorf("look for living sandboxes: %w", err)
	}
	if len(living) > 0 {
		return fmt.Errorf("sandboxes live (%s): end them first, or use --force", strings.Join(living, ", "))
	}
	return nil
}

// owned tells whether containerd serves this node alone: brigd starts it, or a unit
// does at an address of the node's. Another one's namespaces are not touched.
func (d *daemon) owned() bool {
	return d.own != nil || filepath.Dir(d.Config.Containerd.Address) == filepath.Clean(d.Config.RunDir)
}

// removeState removes what brigd and its containerd made, and the folder if nothing
// else is in it: the configuration may name one that holds more.
func removeState(dir string) error {
	var errs []error
	for _, name := range []string{"brig.db", "ca", "sandboxes", "containerd", "containerd.log", "containerd.log.1"} {
		errs = append(errs, os.RemoveAll(filepath.Join(dir, name)))
	}
	older, err := filepath.Glob(filepath.Join(dir, "brig.db.*")) // what was kept of earlier stores
	errs = append(errs, err)
	for _, path := range older {
		errs = append(errs, os.Remove(path))
	}
	if entries, err := os.ReadDir(dir); err == nil && len(entries) == 0 {
		errs = append(errs, os.Remove(dir))
	}
	return errors.Join(errs...)
}
