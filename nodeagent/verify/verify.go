// Package verify compares what a node holds with what brigd's records say that it should
// hold, for operators (brig node verify) and for tests.
//
// It reads only. What it lists is brigd's alone: names that derive from a sandbox's id,
// below the node's own folders, groups and namespaces. What other users of the same
// containerd or of the same network have is neither listed nor judged.
//
// A node is never at rest, so one look proves little: a sandbox that is being made or
// torn down is not judged, and a difference counts if it is there at every one of several
// looks. Safe for concurrent use.
package verify

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"brig/internal/config"
	"brig/internal/sandbox"
	"brig/nodeagent/engine"
	"brig/nodeagent/network"
	"brig/nodeagent/record"
)

const (
	// looks that a difference must outlive, and the pause between them.
	looks = 5
	pause = 200 * time.Millisecond
	// patience with what has ended and is not torn down yet; then it counts.
	patience = 10 * time.Second
)

// Line of a census: one thing that the node holds, or should.
type Line struct {
	Kind string
	// Owner is the sandbox's id; empty: the node itself, or nobody.
	Owner string
	// Name of the thing, if it follows from the records; it is compared.
	Name string
	// Detail is for people and not compared.
	Detail string
}

// String is the line as people and scripts read it.
func (l Line) String() string {
	text := l.Kind
	for _, word := range []string{l.Owner, l.Name, l.Detail} {
		if word != "" {
			text += " " + word
		}
	}
	return text
}

// key is what is compared.
func (l Line) key() Line { l.Detail = ""; return l }

// Result of a comparison.
type Result struct {
	// Census is what the node holds, a line each, sorted.
	Census []string
	// Differences are sorted: "- " before what the node should hold and does not, "+ "
	// before what it holds and should not.
	Differences []string
}

// Parts are where a node's holdings and records are read.
type Parts struct {
	Config  *config.Config
	Records func() ([]record.Record, error)
	// Slots that are waiting to be one.
	Slots  func() ([]record.Slot, error)
	Engine interface {
		Held(ctx context.Context) ([]engine.Held, error)
	}
	Network interface {
		Held(ctx context.Context) ([]network.Held, error)
	}
	// Saving tells whether a sandbox is being saved: what is unfinished is not judged then.
	Saving func() bool
	// PID of brigd, whose listeners are the tunnels'.
	PID int
}

// Run compares.
func Run(ctx context.Context, p Parts) (Result, error) {
	begun := time.Now()
	var persisting map[string]bool
	for look := 1; ; look++ {
		l, err := p.look(ctx, time.Since(begun) > patience)
		if err != nil {
			return Result{}, err
		}
		if l.ending && time.Since(begun) <= patience {
			look, persisting = 0, nil // what ends is waited for
		} else if persisting == nil {
			persisting = l.differences
		} else {
			persisting = both(persisting, l.differences)
		}
		if !l.ending && (len(persisting) == 0 || look >= looks) || time.Since(begun) > 2*patience {
			return Result{Census: texts(l.held), Differences: sorted(persisting)}, nil
		}
		if err := wait(ctx, pause); err != nil {
			return Result{}, err
		}
	}
}

// look is one comparison.
type look struct {
	held        []Line
	differences map[string]bool
	ending      bool // something has ended and is not torn down
}

func (p *Parts) look(ctx context.Context, impatient bool) (look, error) {
	before, slotsBefore, err := p.known()
	if err != nil {
		return look{}, err
	}
	saving := p.Saving()
	held, err := p.held(ctx)
	if err != nil {
		return look{}, fmt.Errorf("look what the node holds: %w", err)
	}
	after, slotsAfter, err := p.known()
	if err != nil {
		return look{}, err
	}
	j := judge(before, after, impatient)
	want := p.node()
	for _, s := range j.judgeSlots(slotsBefore, slotsAfter) {
		want = append(want, p.expectedSlot(&s)...)
	}
	for _, r := range after {
		if !j.skipped[r.ID] {
			want = append(want, p.expected(&r)...)
			want = append(want, allowed(&r, held)...)
		}
	}
	if saving || p.Saving() {
		held = slices.DeleteFunc(held, unfinished)
	}
	held = slices.DeleteFunc(held, func(l Line) bool { return j.skipped[sandbox.ID(l.Owner)] })
	return look{held: held, differences: compare(want, held), ending: j.ending}, nil
}

// known are the records. A slot becomes a sandbox in one transaction, so that between the
// two questions none is overlooked.
func (p *Parts) known() ([]record.Record, []record.Slot, error) {
	slots, err := p.Slots()
	if err != nil {
		return nil, nil, err
	}
	records, err := p.Records()
	return records, slots, err
}

// judged tells which sandboxes are at rest.
type judged struct {
	skipped map[sandbox.ID]bool
	ending  bool
}

// judge skips what was not in the same state before and after a look, and whatever is
// being made or torn down; an impatient one only what is being made.
func judge(before, after []record.Record, impatient bool) judged {
	j := judged{skipped: map[sandbox.ID]bool{}}
	was := map[sandbox.ID]*record.Record{}
	for i := range before {
		was[before[i].ID] = &before[i]
	}
	for i := range after {
		r := &after[i]
		b := was[r.ID]
		delete(was, r.ID)
		ends := r.State == sandbox.Exited && !r.Clean || r.State == sandbox.Running && r.Ending != ""
		j.ending = j.ending || ends
		if b == nil || b.State != r.State || r.State == sandbox.Creating || ends && !impatient || b.Clean != r.Clean && !impatient {
			j.skipped[r.ID] = true
		}
	}
	for id := range was { // removed meanwhile
		j.skipped[id] = true
	}
	return j
}

func compare(want, held []Line) map[string]bool {
	wanted, there := map[Line]bool{}, map[Line]bool{}
	for _, l := range want {
		wanted[l.key()] = true
	}
	differences := map[string]bool{}
	for _, l := range held {
		there[l.key()] = true
		if !wanted[l.key()] && !bystander(l) {
			differences["+ "+l.String()] = true
		}
	}
	for l := range wanted {
		if !there[l] {
			differences["- "+l.String()] = true
		}
	}
	return differences
}

func both(a, b map[string]bool) map[string]bool {
	kept := map[string]bool{}
	for text := range a {
		if b[text] {
			kept[text] = true
		}
	}
	return kept
}

func texts(lines []Line) []string {
	var all []string
	for _, l := range lines {
		all = append(all, l.String())
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// sorted by what they are about, as in a census.
func sorted(differences map[string]bool) []string {
	var all []string
	for text := range differences {
		all = append(all, text)
	}
	slices.SortFunc(all, func(a, b string) int { return cmp.Or(cmp.Compare(a[2:], b[2:]), cmp.Compare(a, b)) })
	return all
}

func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
