package verify

import (
	"brig/internal/sandbox"
	"brig/nodeagent/record"
)

// judgeSlots skips those that are being made or removed, or were, or that somebody has
// taken, and returns the others.
func (j *judged) judgeSlots(before, after []record.Slot) (rest []record.Slot) {
	was := map[sandbox.ID]bool{}
	for _, s := range before {
		was[s.ID] = s.Waiting
		j.skipped[s.ID] = true
	}
	for _, s := range after {
		if j.skipped[s.ID] = !s.Waiting || !was[s.ID]; !j.skipped[s.ID] {
			rest = append(rest, s)
		}
	}
	return rest
}

// expectedSlot is what one that waits holds: a sandbox without a program, nor what it takes;
// with a checkpoint loaded, all of it.
func (p *Parts) expectedSlot(s *record.Slot) (want []Line) {
	kinds := p.booted()
	if s.Shape.Held != (record.Held{}) {
		kinds = append(kinds, p.filed()...)
	}
	for _, kind := range kinds {
		want = append(want, Line{Kind: kind, Owner: string(s.ID)})
	}
	return append(want, attached(string(s.ID), s.Address)...)
}
