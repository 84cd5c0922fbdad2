package pool

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"brig/internal/failpoint"
	"brig/internal/sandbox"
	"brig/nodeagent/engine"
	"brig/nodeagent/record"
)

const (
	// look is how often age and calm are looked at.
	look = time.Second
	// makeTime and removeTime bound one slot.
	makeTime   = time.Minute
	removeTime = time.Minute
	// endTime is how long one that is being made may take when brigd ends.
	endTime = 5 * time.Second
	// patience is how long a slot that is to be made waits for creates.
	patience = 250 * time.Millisecond
	// removeAtOnce bounds how many are removed together.
	removeAtOnce = 8
)

// wait grows while making fails: it is most likely everybody's fault.
type wait struct{ next time.Duration }

const (
	firstWait = time.Second
	longest   = time.Minute
)

func (w *wait) longer() time.Duration {
	w.next = min(max(2*w.next, firstWait), longest)
	return w.next
}

func (p *Pool) keep(ctx context.Context) {
	if err := p.takeOver(ctx); err != nil {
		p.Log.Warn("what waits is not known, and not used", "err", err)
		return
	}
	for ctx.Err() == nil {
		pause := look
		if shape, missing := p.plan(); missing {
			pause = p.fill(ctx, shape)
		}
		p.removeLeaving(ctx)
		if pause == 0 {
			continue
		}
		wake := p.wake
		if p.away.next > 0 {
			wake = nil // who has failed waits, whatever is asked for meanwhile
		}
		select {
		case <-time.After(pause):
		case <-wake:
		case <-ctx.Done():
		}
	}
}

// takeOver what the records say: slots that wait and that the same maker made on this run
// of the machine; the rest goes.
func (p *Pool) takeOver(ctx context.Context) error {
	all, err := p.Store.Slots()
	if err != nil {
		return err
	}
	maker, err := p.Maker()
	if err != nil {
		return err
	}
	var waiting, leaving []record.Slot
	for _, s := range all {
		ok := s.Waiting && s.Maker == maker && s.Made.Boot == p.Boot && p.restorable(s.Shape)
		if ok {
			ok, err = p.Runtime.Waits(ctx, string(s.ID))
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err == nil && ok {
			waiting = append(waiting, s)
		} else {
			leaving = append(leaving, s)
		}
	}
	now := p.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.waiting, p.leaving, p.open = waiting, leaving, true
	for _, s := range waiting { // which was asked for then
		p.demand.note(now-calm, s.Shape)
	}
	return nil
}

// restorable tells that a slot's checkpoint is there, if it has one.
func (p *Pool) restorable(s record.Shape) bool {
	return s.Held == (record.Held{}) || p.Restorer != nil && p.Restorer.Restorable(s.Held)
}

// plan moves what is not to wait any more to what leaves, and tells which shape is missing.
func (p *Pool) plan() (shape record.Shape, missing bool) {
	maker, err := p.Maker()
	now := p.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dismiss(func(s record.Slot) bool { return err == nil && s.Maker != maker || p.old(s, now) })
	target := p.demand.target(p.Config, now, len(p.waiting))
	there := map[record.Shape]int{}
	for _, s := range p.waiting {
		there[s.Shape]++
	}
	wanted := p.demand.shapes(target, p.Default, there)
	for s, n := range wanted {
		if n > there[s] {
			shape, missing = s, err == nil
		}
	}
	surplus := len(p.waiting) - target
	if missing {
		surplus++ // one of another shape makes room
	}
	p.dismiss(func(s record.Slot) bool {
		if surplus <= 0 || there[s.Shape] <= wanted[s.Shape] {
			return false
		}
		surplus, there[s.Shape] = surplus-1, there[s.Shape]-1
		return true
	})
	return shape, missing
}

// dismiss those that wait and that goes is true of, oldest first.
func (p *Pool) dismiss(goes func(record.Slot) bool) {
	var stay []record.Slot
	for _, s := range p.waiting {
		if goes(s) {
			p.leaving = append(p.leaving, s)
		} else {
			stay = append(stay, s)
		}
	}
	p.waiting = stay
}

// fill makes one slot, and tells how long to wait before the next.
func (p *Pool) fill(ctx context.Context, shape record.Shape) time.Duration {
	p.yield(ctx)
	if ctx.Err() != nil {
		return look
	}
	// One that is begun is made: it would have to be removed otherwise. But nobody's end
	// waits long for it.
	making, cancel := context.WithTimeout(context.WithoutCancel(ctx), makeTime)
	hurry := context.AfterFunc(ctx, func() { time.AfterFunc(endTime, cancel) })
	m := p.begin(shape, cancel)
	s, err := p.boot(making, shape)
	hurry()
	cancel()
	switch gone := p.finish(m, s, err); {
	case gone:
		return 0
	case err == nil:
		if p.away.next > 0 {
			p.Log.Info("the pool is filled again")
		}
		p.away = wait{}
		return 0
	case shape.Held != (record.Held{}):
		// Others are not its fault, and it is made anew when it is asked for.
		p.Log.Warn("a checkpoint cannot be held; creates restore it", "checkpoint", shape.Held.Checkpoint, "owner", shape.Held.Owner, "err", err)
		return look
	}
	if p.away.next == 0 {
		p.Log.Warn("the pool cannot be filled; creates boot their own", "err", err)
	}
	return p.away.longer()
}

// begin notes what is being made.
func (p *Pool) begin(shape record.Shape, cancel context.CancelFunc) *made {
	m := &made{shape: shape, cancel: cancel, over: make(chan struct{})}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.making, p.made = 1, m
	return m
}

// finish notes what came of it, and tells whether it was forgotten meanwhile.
func (p *Pool) finish(m *made, s record.Slot, err error) (gone bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	defer close(m.over)
	p.making, p.made = 0, nil
	if err == nil && !m.gone {
		p.waiting = append(p.waiting, s)
		return false
	}
	p.leaving = append(p.leaving, s)
	if err != nil && m.shape.Held != (record.Held{}) {
		p.demand.forget(func(shape record.Shape) bool { return shape == m.shape })
	}
	return m.gone
}

// yield to creates that are under way, for a while: where there are always some, slots
// must be made all the same.
func (p *Pool) yield(ctx context.Context) {
	p.mu.Lock()
	idle := p.idle
	p.mu.Unlock()
	if idle == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	select {
	case <-idle:
	case <-ctx.Done():
	}
}

// boot returns a slot that waits, or with an error one that has to be removed.
func (p *Pool) boot(ctx context.Context, shape record.Shape) (s record.Slot, err error) {
	s = record.Slot{ID: sandbox.NewID(), Shape: shape, Made: record.Instant{Boot: p.Boot, At: p.Now()}}
	if s.Maker, err = p.Maker(); err != nil {
		return s, err
	}
	if err := p.Store.PutSlot(s); err != nil {
		return s, err
	}
	failpoint.Hit("pool.recorded")
	netns, err := p.Network.Prepare(string(s.ID))
	if err != nil {
		return s, err
	}
	if s.Address, err = p.Network.AttachClosed(ctx, string(s.ID)); err != nil {
		return s, err
	}
	failpoint.Hit("pool.attached")
	if err := p.fillIn(ctx, s, netns); err != nil {
		return s, err
	}
	failpoint.Hit("pool.booted")
	s.Waiting = true
	if err := p.Store.PutSlot(s); err != nil {
		return s, err
	}
	failpoint.Hit("pool.waiting")
	return s, nil
}

// fillIn makes what is connected: a sandbox that is booted, or that has loaded its checkpoint.
func (p *Pool) fillIn(ctx context.Context, s record.Slot, netns string) error {
	switch {
	case s.Shape.Held == (record.Held{}):
		return p.Runtime.Boot(ctx, engine.Slot{ID: string(s.ID), Netns: netns, Resources: s.Shape.Resources()})
	case p.Restorer == nil:
		return errors.New("nobody restores checkpoints")
	}
	return p.Restorer.Restore(ctx, s, netns)
}

// removeLeaving removes what is not to wait any more. What resists is tried again.
func (p *Pool) removeLeaving(ctx context.Context) {
	p.mu.Lock()
	leaving := p.leaving
	p.leaving, p.removing = nil, len(leaving)
	p.mu.Unlock()
	if len(leaving) == 0 {
		return
	}
	left, err := p.removeAll(ctx, leaving)
	p.mu.Lock()
	p.leaving, p.removing = append(p.leaving, left...), 0
	p.mu.Unlock()
	if err != nil && ctx.Err() == nil {
		p.Log.Warn("remove what waited", "err", err)
	}
}

func (p *Pool) removeAll(ctx context.Context, slots []record.Slot) (left []record.Slot, err error) {
	faults := make([]error, len(slots))
	var group errgroup.Group
	group.SetLimit(removeAtOnce)
	for i, s := range slots {
		group.Go(func() error { faults[i] = p.remove(ctx, s); return nil })
	}
	_ = group.Wait()
	for i, fault := range faults {
		if fault != nil {
			left = append(left, slots[i])
		}
	}
	return left, errors.Join(faults...)
}

// remove everything of a slot. The network goes last, as of every sandbox, but for the
// record.
func (p *Pool) remove(ctx context.Context, s record.Slot) error {
	ctx, cancel := context.WithTimeout(ctx, removeTime)
	defer cancel()
	id := s.ID
	if s.Waiting { // on record it does not any more before anything of it goes
		s.Waiting = false
		if err := p.Store.PutSlot(s); err != nil {
			return fmt.Errorf("remove slot %s: %w", id, err)
		}
	}
	failpoint.Hit("pool.leaving")
	if err := p.Runtime.Remove(ctx, string(id)); err != nil {
		return fmt.Errorf("remove slot %s: %w", id, err)
	}
	failpoint.Hit("pool.removed")
	if s.Shape.Held != (record.Held{}) && p.Restorer != nil {
		if err := p.Restorer.Clear(id); err != nil {
			return fmt.Errorf("remove slot %s: %w", id, err)
		}
	}
	if err := p.Network.Detach(ctx, string(id)); err != nil {
		return fmt.Errorf("remove slot %s: %w", id, err)
	}
	return p.Store.DeleteSlot(id)
}

// Drain ends what Run does and removes every slot: the end of a node.
func (p *Pool) Drain(ctx context.Context) error {
	p.Close()
	p.mu.Lock()
	p.waiting, p.leaving, p.open = nil, nil, false
	p.mu.Unlock()
	all, err := p.Store.Slots()
	if err != nil {
		return err
	}
	_, err = p.removeAll(ctx, all)
	return err
}
