package doctor

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"brig/nodeagent/clock"
	"brig/nodeagent/doctor/probe"
)

const (
	// pace between two frames keeps receivers from losing any.
	pace = 300 * time.Microsecond
	// patience of a try from inside.
	patience = 700 * time.Millisecond
	// stragglers is how long a packet may be under way after all was sent.
	stragglers = 300 * time.Millisecond
	// controlTime is how long the controls are waited for.
	controlTime = 2 * time.Second
	// batch is how many bytes of a plan one probe is given.
	batch = 40 << 10
)

// attempt is one thing sent, an escape or a control.
type attempt struct {
	what   string // for people
	n      int    // its marker's
	places []string
	// answer: an answer to the probe counts like a sighting.
	answer bool
	// probed: it is the probe's to send, and err is set unless it told what came of it.
	probed bool
	err    error
	said   string
}

// kase is one row of the table: tries to escape, and controls.
type kase struct {
	p        *plan
	name     string
	what     string // one line for people
	unfit    string // why this node cannot have it; empty: it can
	tries    []*attempt
	controls []*attempt
	// also is something that the case found by other means than a marker.
	also []string
}

// shot is a frame to inject.
type shot struct {
	from  *box
	frame []byte
}

// plan is everything that a run does, made before anything is sent.
type plan struct {
	*world
	cases  []*kase
	shots  []shot
	probes map[*box][]probe.Try
	byID   map[int]*attempt // those that a probe makes
	// plain are the controls of a box that many cases share.
	plain map[*box][]*attempt
	// greeting is the control that the sibling serves.
	greeting *attempt
	// late is what cannot be done side by side with the rest, in this order.
	late []func(context.Context) error
}

// layOut plans every case, in the table's order.
func layOut(w *world) *plan {
	p := &plan{world: w, probes: map[*box][]probe.Try{}, byID: map[int]*attempt{}, plain: map[*box][]*attempt{}}
	for _, group := range []func(*plan){
		identity, beforePolicy, fragments, linkLayer, versionSix, ownSix, protocols, icmpCases, options,
		nodeItself, transitItself, sibling, never, names, insideOnly, secondWall, flows,
	} {
		group(p)
	}
	return p
}

// add a case.
func (p *plan) add(name, what string, build func(*kase)) {
	c := &kase{p: p, name: name, what: what}
	p.cases = append(p.cases, c)
	build(c)
}

// outside are the places where a marker from this box must not be seen.
func (p *plan) outside(from *box) []string {
	places := []string{atListener, atTransit}
	for _, b := range []*box{p.open, p.list, p.deny} {
		if b != from {
			places = append(places, inbox+b.name)
		}
	}
	return append(places, atHost, atUplink)
}

// frame to inject as a try; build puts the marker in.
func (c *kase) frame(from *box, what string, build func(marker []byte) []byte) *attempt {
	a := c.p.inject(from, what, c.p.outside(from), build)
	c.tries = append(c.tries, a)
	return a
}

// control injects what must be seen, in the host unless places are named.
func (c *kase) control(from *box, build func(marker []byte) []byte, places ...string) *attempt {
	if len(places) == 0 {
		places = []string{atHost}
	}
	a := c.p.inject(from, "control", places, build)
	c.controls = append(c.controls, a)
	return a
}

func (p *plan) inject(from *box, what string, places []string, build func([]byte) []byte) *attempt {
	n, marker := p.judge.marker()
	p.shots = append(p.shots, shot{from, build(marker)})
	return &attempt{what: what, n: n, places: places}
}

// forge is a try to send what a sandbox may send, changed.
func (c *kase) forge(from *box, what string, change func(f *frame, marker []byte)) {
	c.frame(from, what, func(m []byte) []byte { return c.p.changed(from, m, change) })
}

// honestly is the control of a forge; without a change it is a plain datagram.
func (c *kase) honestly(from *box, change func(f *frame, marker []byte)) {
	c.control(from, func(m []byte) []byte { return c.p.changed(from, m, change) })
}

func (p *plan) changed(from *box, marker []byte, change func(*frame, []byte)) []byte {
	f := p.honest(from, at(p.yes, 1), marker)
	if change != nil {
		change(&f, marker)
	}
	return f.encode()
}

// probe is a try from inside a sandbox.
func (c *kase) probe(from *box, what string, kind probe.Kind, to string, more ...func(*probe.Try, []byte)) {
	a := c.p.ask(from, what, kind, to, c.p.outside(from), more)
	a.answer = true
	c.tries = append(c.tries, a)
}

// probeControl is what must be seen when the probe does it, in the host unless places
// are named.
func (c *kase) probeControl(from *box, kind probe.Kind, to string, places ...string) {
	if len(places) == 0 {
		places = []string{atHost}
	}
	c.controls = append(c.controls, c.p.ask(from, "control from inside", kind, to, places, nil))
}

// answerControl is what must be answered when the probe does it.
func (c *kase) answerControl(from *box, kind probe.Kind, to string, more ...func(*probe.Try, []byte)) {
	a := c.p.ask(from, "control from inside", kind, to, nil, more)
	a.answer = true
	c.controls = append(c.controls, a)
}

func (p *plan) ask(from *box, what string, kind probe.Kind, to string, places []string, more []func(*probe.Try, []byte)) *attempt {
	n, marker := p.judge.marker()
	t := probe.Try{ID: n, Kind: kind, To: to, Payload: marker}
	for _, m := range more {
		m(&t, marker)
	}
	if dst, err := netip.ParseAddrPort(to); err == nil && kind == probe.TCP {
		p.judge.watch(n, dialled{protoTCP, from.addr, dst})
	}
	a := &attempt{what: what, n: n, places: places, probed: true, err: fmt.Errorf("nothing is known of it")}
	p.probes[from] = append(p.probes[from], t)
	p.byID[n] = a
	return a
}

// carryOut sends everything and waits until what was sent is settled.
func (p *plan) carryOut(ctx context.Context) error {
	var doing errgroup.Group
	for from, tries := range p.probes {
		doing.Go(func() error { return p.runProbes(ctx, from, tries) })
	}
	doing.Go(func() error { return p.injectAll(ctx) })
	if err := doing.Wait(); err != nil {
		return err
	}
	p.settle(ctx)
	for _, f := range p.late {
		if err := f(ctx); err != nil {
			return err
		}
	}
	return context.Cause(ctx)
}

// settle waits for the controls, and then for what may still be under way.
func (p *plan) settle(ctx context.Context) {
	for end := time.Now().Add(controlTime); time.Now().Before(end) && !p.allControls(); {
		if !clock.Pause(ctx, 20*time.Millisecond) {
			return
		}
	}
	clock.Pause(ctx, stragglers)
}

func (p *plan) allControls() bool {
	for _, c := range p.cases {
		for _, a := range c.controls {
			if len(a.places) > 0 && p.judge.saw(a.n, a.places) == "" {
				return false
			}
		}
	}
	return true
}

// injectAll sends the frames in the order of the plan, because some need another
// before them.
func (p *plan) injectAll(ctx context.Context) error {
	sockets := map[*box]int{}
	defer func() {
		for _, fd := range sockets {
			_ = unix.Close(fd)
		}
	}()
	for _, s := range p.shots {
		fd, ok := sockets[s.from]
		if !ok {
			var err error
			if fd, err = packetSocket(s.from.path, s.from.link); err != nil {
				return err
			}
			sockets[s.from] = fd
		}
		if _, err := unix.Write(fd, s.frame); err != nil {
			return fmt.Errorf("inject a frame into %s: %w", s.from.name, err)
		}
		if !clock.Pause(ctx, pace) {
			return context.Cause(ctx)
		}
	}
	return nil
}

// runProbes has a sandbox's probe make its tries, in as many plans as it takes.
func (p *plan) runProbes(ctx context.Context, from *box, tries []probe.Try) error {
	for len(tries) > 0 {
		var text []byte
		n := len(tries)
		for {
			var err error
			if text, err = json.Marshal(probe.Plan{Patience: patience, Tries: tries[:n]}); err != nil {
				return err
			}
			if len(text) <= batch || n == 1 {
				break
			}
			n = n * batch / (len(text) + 1)
		}
		var outcomes []probe.Outcome
		if err := p.exec(ctx, from, &outcomes, "try", string(text)); err != nil {
			return err
		}
		for _, o := range outcomes {
			a, ok := p.byID[o.ID]
			if !ok {
				return fmt.Errorf("the probe in sandbox %s tells of something that it was not asked", from.name)
			}
			a.err, a.said = nil, o.Said
			a.answer = a.answer && o.Got()
		}
		tries = tries[n:]
	}
	return nil
}

// report judges.
func (p *plan) report(name string) Report {
	r := Report{Node: name}
	for _, c := range p.cases {
		r.Results = append(r.Results, c.judge())
	}
	return r
}

// escaped tells where an attempt was seen; "" if it was not.
func (p *plan) escaped(a *attempt) string {
	if place := p.judge.saw(a.n, a.places); place != "" {
		return "seen at " + place
	}
	if a.probed && a.err == nil && a.answer {
		return a.said
	}
	return ""
}

func (c *kase) judge() Result {
	r := Result{Case: c.name, Tries: len(c.tries), Controls: len(c.controls)}
	found := slices.Clone(c.also)
	for _, a := range c.tries {
		if how := c.p.escaped(a); how != "" {
			found = append(found, a.what+": "+how)
		}
	}
	switch doubt := c.doubt(); {
	case len(found) > 0:
		r.Verdict, r.Detail = Escaped, found[0]
		if len(found) > 1 {
			r.Detail += fmt.Sprintf(", and %d more", len(found)-1)
		}
	case c.unfit != "":
		r.Verdict, r.Detail = NotHere, c.unfit
	case doubt != "":
		r.Verdict, r.Detail = NotJudged, doubt
	default:
		r.Verdict, r.Detail = OK, c.what
	}
	r.Detail = strings.Join(strings.Fields(r.Detail), " ") // one line, whatever an error says
	return r
}

// doubt says why nothing can be concluded from silence; "" if it can.
func (c *kase) doubt() string {
	switch {
	case len(c.tries) == 0:
		return "nothing was tried"
	case len(c.controls) == 0:
		return "nothing shows that it could have been seen"
	}
	for _, a := range c.tries {
		if a.err != nil {
			return a.what + ": " + a.err.Error()
		}
	}
	for i, a := range c.controls {
		switch {
		case a.err != nil:
			return fmt.Sprintf("control %d: %v", i+1, a.err)
		case c.p.escaped(a) == "" && a.said != "":
			return fmt.Sprintf("control %d was not seen; from inside: %s", i+1, a.said)
		case c.p.escaped(a) == "":
			return fmt.Sprintf("control %d, which is allowed, was not seen at %v", i+1, a.places)
		}
	}
	return ""
}
