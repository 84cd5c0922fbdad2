package doctor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sync/errgroup"

	"brig/nodeagent/clock"
	"brig/nodeagent/doctor/probe"
)

const (
	flowTime  = 1500 * time.Millisecond // of the connection, all in all
	flowEvery = 25 * time.Millisecond   // between two segments of it
	flowPort  = 80
	// grace is how long a packet may be under way when a policy is in force.
	grace = 60 * time.Millisecond
)

// flows: a policy that is tightened ends what runs. It is last, because the sandbox has
// no network after it.
func flows(p *plan) {
	p.add("flow after a block: out", "a connection that was open when its sandbox was blocked", func(out *kase) {
		p.add("flow after a block: in", "what its server goes on sending", func(in *kase) {
			p.late = append(p.late, func(ctx context.Context) error { return p.blockFlow(ctx, out, in) })
		})
	})
}

// blockFlow opens a connection from inside to a server that the doctor plays, blocks the
// sandbox in the middle of it, and looks what still passes.
func (p *plan) blockFlow(ctx context.Context, out, in *kase) error {
	server := netip.AddrPortFrom(at(p.yes, 10), flowPort)
	mark := func() (int, []byte) { return p.judge.marker() }
	// What is sent before the block is the control, and what is sent after it the try.
	before, beforeText := mark()
	after, afterText := mark()
	sent, sentText := mark()
	r, err := p.respond(server, before, beforeText, afterText)
	if err != nil {
		return err
	}
	defer r.close()
	in.controls = []*attempt{{what: "control", n: before, places: []string{inbox + p.open.name}}}
	in.tries = []*attempt{{what: "segments of the server", n: after, places: []string{inbox + p.open.name}}}
	out.controls = []*attempt{{what: "control", n: sent, places: []string{atHost}}}
	var flow probe.FlowOutcome
	blocked := false
	var doing errgroup.Group
	doing.Go(func() error {
		plan, err := json.Marshal(probe.FlowPlan{To: server.String(), For: flowTime, Every: flowEvery, Payload: sentText})
		if err != nil {
			return err
		}
		return p.exec(ctx, p.open, &flow, "flow", string(plan))
	})
	doing.Go(func() error {
		if !r.await(ctx, flowTime) {
			return nil // the controls tell
		}
		if err := p.block(ctx, p.open.transit); err != nil {
			return fmt.Errorf("block the doctor's own sandbox: %w", err)
		}
		clock.Pause(ctx, grace)
		r.blocked()
		blocked = true
		return nil
	})
	if err := doing.Wait(); err != nil {
		return err
	}
	late := r.late()
	try := &attempt{what: "segments of the sandbox", places: nil}
	switch {
	case flow.Wrote == 0:
		try.err = errors.New("no connection from inside: " + flow.Ended)
	case !blocked:
		try.err = errors.New("the connection did not carry data both ways")
	}
	out.tries = []*attempt{try}
	if late > 0 {
		out.also = append(out.also, fmt.Sprintf("%d segments of the sandbox: seen at %s after the block", late, atHost))
	}
	return nil
}
