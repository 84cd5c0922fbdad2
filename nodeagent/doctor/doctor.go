// Package doctor looks whether a node's isolation holds, by trying to escape from it.
//
// A run makes throwaway sandboxes, tries from inside them and as raw frames on their
// links what a hostile sandbox tries, and watches the node: a capture on its link in
// the host, on the host's uplinks and on the sandboxes' links, and listeners of its own
// on the host and in the transit namespace. Whether something escaped is decided by a
// unique marker that was seen where it must not be, never by what the sandbox says it
// did not reach; an answer that a sandbox got counts against the node, too.
//
// Every case has a control: the same thing done rightly, which must be seen. A case
// whose control was not seen is not judged, however quiet its attack was, so that
// nothing passes because nothing worked.
//
// A run is safe on a node that serves users. It sends to its own sandboxes, to the
// node, to documentation ranges (RFC 5737, RFC 3849), and to addresses that no policy
// admits; captures are filtered in the kernel to what is the doctor's own; it changes
// the policy of its own sandboxes alone. Time, memory and the number of frames are
// bounded. What it made it removes, also after a failure; what a killed run left, the
// next one removes, and its sandboxes end by themselves. One run at a time: a second
// one waits for its turn.
//
// It needs root in the network namespace that the node takes for the host's, and brigd.
package doctor

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"brig/internal/config"
	"brig/nodeagent/brig/client"
)

// Timeout bounds a run, all in all. What remains to be removed then has its own time.
const Timeout = 90 * time.Second

// Options of a run.
type Options struct {
	Config *config.Config
	Client *client.Client // of the node's brigd
	// Probe is the path of brig-probe; empty: beside the configured folder of guests.
	Probe string
	// Before is called, if it is set, once the sandboxes stand and nothing has been
	// tried yet. It is for tests that weaken the node.
	Before func(Made) error
	// Block puts a policy that admits nothing in force on a link of the transit
	// namespace; nil: as the node does it. It is for tests, too.
	Block func(ctx context.Context, link string) error
}

// Made are the sandboxes of a run.
type Made struct {
	Open Sandbox // about which nothing was said
	List Sandbox // with a CIDR list
	Deny Sandbox // an attachment without a policy
}

// Sandbox of a run, as the transit namespace knows it.
type Sandbox struct {
	ID   string
	Link string
	Addr netip.Addr
}

// Run tries every case. An error means that it could not be done, and then nothing is
// known of the node's isolation.
func Run(ctx context.Context, o Options) (report Report, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, Timeout, fmt.Errorf("not done within %v", Timeout))
	defer cancel()
	begun := time.Now()
	err = alone(ctx, o.Config, func(ctx context.Context) error {
		report, err = run(ctx, o)
		return err
	})
	if err != nil {
		return Report{}, err
	}
	report.Took = time.Since(begun).Round(time.Millisecond)
	return report, nil
}

func run(ctx context.Context, o Options) (report Report, err error) {
	n, err := prepare(ctx, o)
	defer func() { err = errors.Join(err, n.remove(context.WithoutCancel(ctx))) }()
	if err != nil {
		return Report{}, err
	}
	w, err := look(n)
	if err != nil {
		return Report{}, err
	}
	defer w.close()
	p := layOut(w)
	if o.Before != nil {
		if err := o.Before(n.made()); err != nil {
			return Report{}, err
		}
	}
	if err := p.carryOut(ctx); err != nil {
		return Report{}, err
	}
	return p.report(o.Config.Node), nil
}
