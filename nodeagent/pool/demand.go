package pool

import (
	"cmp"
	"slices"
	"time"

	"brig/internal/config"
	"brig/nodeagent/record"
)

const (
	// rush is the time whose creates are what the next such time is prepared for.
	rush = 10 * time.Second
	// calm is how long nothing may be asked for before there is less than there was.
	calm = time.Minute
	// remembered creates say which shapes wait.
	remembered = 64
)

// demand is what was asked for of late.
type demand struct {
	asked []asked // oldest first
}

type asked struct {
	at    time.Duration
	shape record.Shape
}

func (d *demand) note(now time.Duration, shape record.Shape) {
	d.asked = append(d.asked, asked{now, shape})
	if len(d.asked) > 2*remembered && now-d.asked[0].at > calm {
		d.asked = slices.Clone(d.asked[len(d.asked)-remembered:])
	}
}

// forget what was asked for of shapes that there are to be none of.
func (d *demand) forget(gone func(record.Shape) bool) {
	d.asked = slices.DeleteFunc(d.asked, func(a asked) bool { return gone(a.shape) })
}

// target is how many slots are to wait: as many as were asked for in the last rush, within
// what is configured; and of those that are there already none less before it is calm.
func (d *demand) target(c config.Pool, now time.Duration, waiting int) int {
	rushed := 0
	for i := len(d.asked) - 1; i >= 0 && now-d.asked[i].at < rush; i-- {
		rushed++
	}
	target := max(int(c.Size), min(rushed, int(c.Max)))
	if n := len(d.asked); n > 0 && now-d.asked[n-1].at < calm {
		target = max(target, min(waiting, int(c.Max)))
	}
	return target
}

// shapes divides n slots among what was asked for last, by highest averages. Where two have
// as good a claim it is the one that waits already: shapes that take turns must not have
// slots made and thrown away for every create.
func (d *demand) shapes(n int, usual record.Shape, there map[record.Shape]int) map[record.Shape]int {
	votes := map[record.Shape]int{}
	for _, a := range d.asked[max(0, len(d.asked)-remembered):] {
		votes[a.shape]++
	}
	if len(votes) == 0 {
		votes[usual] = 1
	}
	list := make([]record.Shape, 0, len(votes))
	for s := range votes {
		list = append(list, s)
	}
	given := map[record.Shape]int{}
	for range n {
		best := slices.MaxFunc(list, func(a, b record.Shape) int {
			waits := func(s record.Shape) int { return min(1, max(0, there[s]-given[s])) }
			return cmp.Or(
				cmp.Compare(votes[a]*(given[b]+1), votes[b]*(given[a]+1)),
				cmp.Compare(waits(a), waits(b)), cmp.Compare(a.MemoryMiB, b.MemoryMiB), cmp.Compare(a.CPUs, b.CPUs),
				cmp.Compare(a.Held.Image, b.Held.Image), cmp.Compare(a.Held.Request, b.Held.Request),
			)
		})
		given[best]++
	}
	return given
}
