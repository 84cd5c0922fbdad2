package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// topCosts is how many costs a profile lists.
const topCosts = 10

// profile is where the time of one operation went, in the mean of all times it was done.
// They were done one at a time, so what lies within another in time is its part: who
// started it need not be told.
type profile struct {
	operation string
	count     int
	total     time.Duration // of all
	parts     []*part       // as they were first seen, each below its parent
	programs  []*part
}

// part is a span at its place.
type part struct {
	path  []string
	at    time.Duration // since the operation began; this and the others are sums of all
	took  time.Duration
	own   time.Duration // took, less what its parts took
	count int
	open  int // programs that did not end
}

func (p *part) name() string { return p.path[len(p.path)-1] }

func newProfile(operation string, steps []step, spans []span, programs []program) *profile {
	p := &profile{operation: operation}
	for _, s := range steps {
		if s.operation == operation {
			p.count++
			p.total += s.end.Sub(s.begin)
			p.addSpans(s, spans)
			p.addPrograms(s, programs)
		}
	}
	slices.SortStableFunc(p.programs, func(a, b *part) int { return int(a.at/time.Duration(a.count) - b.at/time.Duration(b.count)) })
	return p
}

// placed is a span of one step, with what its parts cover.
type placed struct {
	*part
	end     time.Time
	covered time.Time // until when its parts so far took its time
}

// addSpans adds what lies within the step. Spans come in the order in which they began;
// what runs beside another part of the same parent counts for the parent once.
func (p *profile) addSpans(s step, spans []span) {
	root := p.at(&p.parts, []string{"the client"}, s, s.begin, s.end)
	stack := []*placed{{part: root, end: s.end, covered: s.begin}}
	for _, sp := range spans {
		if sp.begin.Before(s.begin) || sp.end.After(s.end) {
			continue
		}
		for len(stack) > 1 && sp.end.After(stack[len(stack)-1].end) {
			stack = stack[:len(stack)-1]
		}
		above := stack[len(stack)-1]
		if begin := latest(sp.begin, above.covered); sp.end.After(begin) {
			above.own -= sp.end.Sub(begin)
			above.covered = sp.end
		}
		here := p.at(&p.parts, append(slices.Clone(above.path), sp.name), s, sp.begin, sp.end)
		stack = append(stack, &placed{part: here, end: sp.end, covered: sp.begin})
	}
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func (p *profile) addPrograms(s step, programs []program) {
	for _, run := range programs {
		if run.begin.Before(s.begin) || run.begin.After(s.end) {
			continue
		}
		end, open := run.end, 0
		if end.IsZero() || end.After(s.end) {
			end, open = s.end, 1
		}
		p.at(&p.programs, []string{run.name}, s, run.begin, end).open += open
	}
}

// at adds to the part with this path, or makes it after the last one of its parent.
func (p *profile) at(list *[]*part, path []string, s step, begin, end time.Time) *part {
	i := slices.IndexFunc(*list, func(x *part) bool { return slices.Equal(x.path, path) })
	if i < 0 {
		i = len(*list)
		for j, x := range *list {
			if len(x.path) >= len(path)-1 && slices.Equal(x.path[:len(path)-1], path[:len(path)-1]) {
				i = j + 1
			}
		}
		*list = slices.Insert(*list, i, &part{path: path})
	}
	x := (*list)[i]
	x.at += begin.Sub(s.begin)
	x.took += end.Sub(begin)
	x.own += end.Sub(begin)
	x.count++
	return x
}

// write the profile as text. What a part took and its own time are per operation; when it
// began is the mean of when it did.
func (p *profile) write(w io.Writer) {
	if p.count == 0 {
		fmt.Fprintf(w, "\n%s: none\n", p.operation)
		return
	}
	mean := func(sum time.Duration, n int) string { return fmt.Sprintf("%.2f", float64(sum)/float64(n)/1e6) }
	fmt.Fprintf(w, "\n%s: mean of %d, %s ms\n", p.operation, p.count, mean(p.total, p.count))
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "at\ttook\town\ttimes\t \tpart, in ms")
	for _, x := range p.parts {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t \t%s%s\n", mean(x.at, x.count), mean(x.took, p.count), mean(x.own, p.count), times(x.count, p.count),
			strings.Repeat("  ", len(x.path)-1), x.name())
	}
	fmt.Fprintln(t, "\t\t\t\t\t")
	fmt.Fprintln(t, "at\tran\t\ttimes\t \tprogram")
	for _, x := range p.programs {
		ran := mean(x.took, x.count)
		if x.open == x.count {
			ran = "on"
		}
		fmt.Fprintf(t, "%s\t%s\t\t%s\t \t%s\n", mean(x.at, x.count), ran, times(x.count, p.count), x.name())
	}
	_ = t.Flush()
	fmt.Fprintf(w, "\ntop %d costs, by a part's own time\n", topCosts)
	costs := slices.Clone(p.parts)
	slices.SortStableFunc(costs, func(a, b *part) int { return int(b.own - a.own) })
	for i, x := range costs[:min(topCosts, len(costs))] {
		fmt.Fprintf(w, "%2d. %6s ms %5.1f %%  %s\n", i+1, mean(x.own, p.count), 100*float64(x.own)/float64(p.total), strings.Join(x.path[max(0, len(x.path)-3):], " › "))
	}
}

func times(n, of int) string { return fmt.Sprintf("%.3g", float64(n)/float64(of)) }
