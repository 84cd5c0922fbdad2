package daemon

import (
	"context"
	"errors"
	"fmt"
	"time"

	"brig/internal/transit"
	"brig/nodeagent/standalone"
)

// closeTimeout bounds the end of a throwaway node.
const closeTimeout = 90 * time.Second

// close ends brigd, and with it a throwaway node. Of an installed node everything
// goes on: its sandboxes, and a containerd that brigd started.
func (d *daemon) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	var errs []error
	if d.Throwaway && d.engine != nil {
		errs = append(errs, d.endSandboxes(ctx))
	}
	if d.stop != nil {
		d.stop()
	}
	if d.waiting != nil {
		d.waiting.Close()
	}
	if d.manager != nil {
		d.manager.Close()
	}
	for _, done := range d.workers {
		<-done
	}
	d.sendTraces(ctx)
	if d.engine != nil {
		errs = append(errs, d.engine.Close())
	}
	if d.store == nil {
		return errors.Join(errs...) // another brigd has this node
	}
	if d.Throwaway {
		errs = append(errs, d.endNode(ctx))
	}
	return errors.Join(append(errs, d.store.Close())...)
}

// endSandboxes ends brigd's sandboxes in order, then what others ran on the same
// containerd, if it is the node's.
func (d *daemon) endSandboxes(ctx context.Context) error {
	var err error
	if d.waiting != nil {
		err = d.waiting.Drain(ctx)
	}
	if d.manager != nil {
		err = errors.Join(err, d.manager.EndAll(ctx))
	}
	if !d.owned() {
		return err
	}
	if failed := d.engine.RemoveAll(ctx); failed != nil {
		err = errors.Join(err, fmt.Errorf("end what runs on the node's containerd: %w", failed))
	}
	return err
}

func (d *daemon) endNode(ctx context.Context) error {
	var errs []error
	if d.own != nil {
		errs = append(errs, d.own.Stop())
	}
	return errors.Join(append(errs, transit.Remove(ctx, d.Config), standalone.Clear(d.Config))...)
}

// tracesTimeout is how long the end waits for a collector of traces.
const tracesTimeout = 2 * time.Second

func (d *daemon) sendTraces(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, tracesTimeout)
	defer cancel()
	if err := d.tracing.Close(ctx); err != nil {
		d.Log.Warn("send the last traces", "err", err)
	}
}
